// @ts-check
// The events of executions in a browser, or in Node: one module, no dependency, no build.
// docs/browser.md shows how to use it, docs/wire.md is what it speaks.

/** @typedef {{type: string, execution_id: string, id?: string, step?: string, ts?: string, data?: any, meta?: any,
 *   encoding?: string}} Event An entry of a log; or, as `stream.gap`, a loss that nobody else is told of. */
/** @typedef {{requested: string, earliest: string | null, latest: string | null, reason: string}} Gap
 *   What is missing; with the reason `numbering` it was this client that saw it. */
/** @typedef {'connecting' | 'live' | 'resuming' | 'waiting' | 'ended' | 'denied'} Connection */
/** @typedef {Record<string, string>} Headers */
/** @typedef {object} Access Where the gateway is, and who asks; functions are called at each attempt.
 * @property {string} [url] of the gateway, with its prefix, as `https://host/live`; without it, where this module is from
 * @property {Headers | (() => Headers | Promise<Headers>)} [headers]
 * @property {() => string | Promise<string>} [ticket] a one-time credential for each request
 * @property {RequestCredentials} [credentials] as in fetch
 * @property {AbortSignal} [signal]
 * @property {typeof fetch} [fetch]
 */
/** @typedef {object} Watching
 * @property {string} [from] a cursor to go on behind, or `tail` for what comes from now on
 * @property {string[]} [types] only these, as `step.*`
 * @property {string} [step]
 * @property {string} [mode]
 * @property {'tokens'} [merge]
 * @property {number} [coalesceMs]
 * @property {number} [waitForStart] seconds to wait for an execution that has not begun
 * @property {number} [heartbeatSeconds] of the gateway (10); three times as long without a byte is a dead connection
 * @property {(gap: Gap) => void} [onGap] without it, a gap comes as an event `stream.gap`
 * @property {(connection: Connection) => void} [onConnection]
 */

const TERMINAL = /^execution\.(completed|failed|cancelled|timed_out)$/;
const RETRYABLE = new Set([408, 425, 429, 500, 502, 503, 504]);
const FIRST_WAIT_MS = 500;
const MOST_WAIT_MS = 15_000;

/** What cannot be cured by trying again. `code` is of docs/errors.md, `status` of HTTP, 0 where there was none. */
export class TailraceError extends Error {
  /** @param {string} code @param {string} message @param {number} [status] */
  constructor(code, message, status = 0) {
    super(message);
    this.name = "TailraceError";
    this.code = code;
    this.status = status;
  }
}

/** One execution's events, each once and in order, over any number of connections, until it has ended:
 *
 *     for await (const event of watch("build-7")) console.log(event.type, event.data);
 *
 * Leaving the loop closes the connection. `lastEventId` of what it returns says where it is; give it as `from` to go on
 * there. Throws TailraceError for what trying again does not cure, and what `signal` was aborted with.
 * @param {string} id @param {Access & Watching} [options] @returns {Watch}
 */
export function watch(id, options = {}) {
  return new Watch(`/v1/executions/${encodeURIComponent(id)}/events`, options);
}

/** What happens to all executions that one may read: their beginnings and endings, requests, retries. Never ends.
 * @param {Access & Watching} [options] @returns {Watch} */
export function activity(options = {}) {
  return new Watch("/v1/activity", options);
}

/** @implements {AsyncIterable<Event>} */
export class Watch {
  /** @param {string} path @param {Access & Watching} options */
  constructor(path, options) {
    this._path = path;
    this._options = options;
    /** @type {string | undefined} The id of the last event that was given out. */
    this.lastEventId = options.from === "tail" ? undefined : options.from;
  }

  /** @returns {AsyncGenerator<Event, void, void>} */
  async *[Symbol.asyncIterator]() {
    const options = this._options;
    const tell = teller(options.onConnection);
    let failures = 0;
    let renewed = false;
    for (let first = true; ; first = false) {
      tell(first ? "connecting" : "resuming");
      const line = new Line(options.signal, (options.heartbeatSeconds ?? 10) * 3000);
      let waitMs = -1;
      let told = false;
      try {
        const response = await request(options, this._path, {
          query: this._query(),
          headers: { Accept: "text/event-stream", ...(this.lastEventId ? { "Last-Event-ID": this.lastEventId } : {}) },
          signal: line.signal,
        });
        if (response.status === 204) return void tell("ended");
        if (response.status === 401 && !renewed && (options.headers instanceof Function || options.ticket)) {
          renewed = true;
          continue;
        }
        if (!response.ok) {
          if (!RETRYABLE.has(response.status)) throw await refusal(response);
          waitMs = retryAfterMs(response);
        } else if (response.body && response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
          // Anything else is of somebody on the way, such as a hotel's page that asks for a password.
          for await (const item of line.events(response.body)) {
            failures = 0;
            const { type } = item;
            if (type === "stream.end") return void tell("ended");
            if (type === "stream.reconnect") {
              waitMs = item.retry_ms;
              break;
            }
            if (type === "stream.error") {
              const isCredential = item.code === "token_expired" || item.code === "token_revoked";
              if (isCredential && !renewed && (options.headers instanceof Function || options.ticket)) renewed = true;
              else if (item.retry_ms === undefined && item.code !== "disconnected") {
                throw new TailraceError(item.code, item.detail, isCredential ? 401 : 0);
              }
              waitMs = item.retry_ms ?? -1;
              break;
            }
            if (type === "stream.caught_up") tell("live");
            if (type === "stream.open" && !this.lastEventId && item.cursor !== "0-0") this.lastEventId = item.cursor;
            if (type === "stream.cursor") this.lastEventId = item.id;
            if (type === "stream.gap") {
              told = true;
              yield* this._gap(item);
            }
            if (type.startsWith("stream.")) continue;
            renewed = false;
            const jump = told ? null : this._jump(item);
            told = false;
            if (jump) yield* this._gap(jump);
            this.lastEventId = item.id;
            yield item;
            if (TERMINAL.test(type) && this._path !== "/v1/activity") return void tell("ended");
          }
        }
      } catch (error) {
        if (options.signal?.aborted) throw options.signal.reason;
        if (error instanceof TailraceError) {
          tell(error.status === 401 || error.status === 403 ? "denied" : "ended");
          throw error;
        }
        // The connection broke, or was silent for too long.
      } finally {
        line.close();
      }
      tell("waiting");
      // Full jitter: who was cut off together does not come back together.
      const mostMs = Math.min(FIRST_WAIT_MS * 2 ** failures++, MOST_WAIT_MS);
      await sleep(waitMs >= 0 ? waitMs + Math.random() * 100 : Math.random() * mostMs, options.signal);
    }
  }

  _query() {
    const { from, types, step, mode, merge, coalesceMs, waitForStart } = this._options;
    return {
      from: this.lastEventId ? undefined : from,
      types: types?.join(","),
      step,
      mode,
      merge,
      events: "message",
      coalesce_ms: coalesceMs,
      wait_for_start: waitForStart,
    };
  }

  /** @param {any} item @returns {Generator<Event>} */
  *_gap({ requested, earliest, latest, reason, execution_id }) {
    const gap = { requested, earliest, latest, reason };
    if (this._options.onGap) this._options.onGap(gap);
    else yield { type: "stream.gap", execution_id, data: gap };
  }

  /** Our own entries are numbered 1, 2, 3 …: what is left out of a whole view was lost on the way.
   * @param {any} item */
  _jump({ id, execution_id }) {
    const { types, step, mode, merge } = this._options;
    const last = numberOf(this.lastEventId);
    if (types || step || mode || merge || !last || this._path === "/v1/activity" || numberOf(id) <= last + 1) return null;
    return { requested: this.lastEventId, earliest: id, latest: id, reason: "numbering", execution_id };
  }
}

/** Submit work: `pipeline` with its `input`. Gives `{execution_id, status, links}`; the same `execution_id` twice is the same.
 * @param {string} pipeline @param {any} [input]
 * @param {Access & {execution_id?: string, queue?: string, labels?: Headers, idempotencyKey?: string} & Record<string, any>} [options]
 */
export function submit(pipeline, input = {}, options = {}) {
  const { url, headers, ticket, credentials, signal, fetch, idempotencyKey, ...body } = options;
  const access = { url, headers, ticket, credentials, signal, fetch };
  /** @type {Headers} */
  const more = idempotencyKey ? { "Idempotency-Key": idempotencyKey } : {};
  return call(access, "POST", "/v1/executions", { ...body, pipeline, input }, more);
}

/** @param {string} id @param {Access} [options] */
export const state = (id, options = {}) => call(options, "GET", `/v1/executions/${encodeURIComponent(id)}`);
/** @param {string} id @param {Access & {reason?: string, graceSeconds?: number}} [options] */
export const cancel = (id, options = {}) =>
  control(id, "cancel", { reason: options.reason, grace_seconds: options.graceSeconds }, options);
/** @param {string} id @param {Access} [options] */
export const pause = (id, options = {}) => control(id, "pause", {}, options);
/** @param {string} id @param {Access} [options] */
export const resume = (id, options = {}) => control(id, "resume", {}, options);
/** @param {string} id @param {string} name @param {any} [data] @param {Access} [options] */
export const signal = (id, name, data = null, options = {}) => control(id, "signals", { name, data }, options);
/** Answer a question, by the `ask` of its `review.required`.
 * @param {string} id @param {string} ask @param {any} data @param {Access} [options] */
export const answer = (id, ask, data, options = {}) => signal(id, `answer:${ask}`, data, options);

/** @param {string} id @param {string} what @param {any} body @param {Access} options */
const control = (id, what, body, options) =>
  call(options, "POST", `/v1/executions/${encodeURIComponent(id)}/${what}`, body);

/** @param {Access} access @param {string} method @param {string} path @param {any} [body] @param {Headers} [headers] */
async function call(access, method, path, body, headers = {}) {
  /** @type {Headers} */
  const type = body === undefined ? {} : { "Content-Type": "application/json" };
  const response = await request(access, path, {
    method,
    headers: { Accept: "application/json", ...type, ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: access.signal,
  });
  if (!response.ok) throw await refusal(response);
  return response.status === 204 ? null : response.json();
}

/** @param {Access} access @param {string} path
 * @param {{method?: string, query?: Record<string, any>, headers: Headers, body?: string, signal?: AbortSignal}} what */
async function request(access, path, { method, query = {}, headers, body, signal }) {
  const own = access.headers instanceof Function ? await access.headers() : access.headers;
  const given = Object.entries(query).filter(([, value]) => value !== undefined);
  if (access.ticket) given.push(["ticket", await access.ticket()]);
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return (access.fetch ?? fetch)(`${baseOf(access.url)}${path}${text && `?${text}`}`, {
    method,
    headers: { ...headers, ...own },
    body,
    signal,
    credentials: access.credentials,
    cache: "no-store",
  });
}

/** The gateway that this module came from, unless another is given. @param {string} [url] */
function baseOf(url) {
  const served = /^(https?:.*)\/web\/(?:[^/]+\/)?[^/]+$/.exec(import.meta.url);
  return (url ?? served?.[1] ?? "").replace(/\/$/, "");
}

/** @param {Response} response */
async function refusal(response) {
  const problem = await response.json().catch(() => ({}));
  const detail = problem.detail ?? response.statusText ?? "";
  return new TailraceError(problem.code ?? "http_error", `${response.status}: ${detail}`, response.status);
}

/** @param {Response} response */
function retryAfterMs(response) {
  const after = Number(response.headers.get("Retry-After") ?? NaN);
  return Number.isFinite(after) ? after * 1000 : -1;
}

/** @param {string | undefined} id */
const numberOf = (id) => Number(id?.split("-")[1] ?? 0);

/** @param {((connection: Connection) => void) | undefined} onConnection */
function teller(onConnection) {
  /** @type {Connection | undefined} */
  let last;
  return (/** @type {Connection} */ now) => {
    if (now !== last) onConnection?.((last = now));
  };
}

/** One connection: its lines, and its end when nothing has come for too long. */
class Line {
  /** @param {AbortSignal | undefined} outer @param {number} silentMs */
  constructor(outer, silentMs) {
    this._controller = new AbortController();
    this.signal = this._controller.signal;
    this._silentMs = silentMs;
    this._outer = outer;
    this._abort = () => this._controller.abort(outer?.reason);
    if (outer?.aborted) this._abort();
    outer?.addEventListener("abort", this._abort);
    this._heard();
  }

  _heard() {
    clearTimeout(this._timer);
    this._timer = setTimeout(() => this._controller.abort(new Error("silent")), this._silentMs);
  }

  close() {
    clearTimeout(this._timer);
    this._outer?.removeEventListener("abort", this._abort);
    this._controller.abort();
  }

  /** What a stream of Server-Sent Events says, with the `id` of each; a block that is cut off was not said.
   * @param {ReadableStream<Uint8Array>} body @returns {AsyncGenerator<any>} */
  async *events(body) {
    const reader = body.getReader();
    const decoder = new TextDecoder();
    let held = "";
    let id = "";
    let data = "";
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        this._heard();
        const lines = (held + decoder.decode(value, { stream: true })).split("\n");
        held = lines.pop() ?? "";
        for (const line of lines) {
          if (line.startsWith("data: ")) data = line.slice(6);
          else if (line.startsWith("id: ")) id = line.slice(4);
          else if (line === "" && data) {
            const said = JSON.parse(data);
            yield id ? { id, ...said } : said;
            id = data = "";
          }
        }
      }
    } finally {
      reader.cancel().catch(() => {});
    }
  }
}

/** Sleep, but no longer than until the page is looked at again or the network is back.
 * @param {number} ms @param {AbortSignal} [signal] @returns {Promise<void>} */
function sleep(ms, signal) {
  const world = /** @type {any} */ (globalThis);
  return new Promise((resolve, reject) => {
    const wake = () => end(resolve);
    const seen = () => world.document?.visibilityState === "visible" && wake();
    const abort = () => end(() => reject(signal?.reason));
    const timer = setTimeout(wake, ms);
    /** @param {() => void} call */
    const end = (call) => {
      clearTimeout(timer);
      world.removeEventListener?.("online", wake);
      world.removeEventListener?.("pageshow", wake);
      world.document?.removeEventListener("visibilitychange", seen);
      signal?.removeEventListener("abort", abort);
      call();
    };
    if (signal?.aborted) return abort();
    world.addEventListener?.("online", wake);
    world.addEventListener?.("pageshow", wake);
    world.document?.addEventListener("visibilitychange", seen);
    signal?.addEventListener("abort", abort);
  });
}

/** @typedef {object} Step
 * @property {'running' | 'completed' | 'failed' | 'skipped' | 'waiting'} status
 * @property {number} attempt how often it was begun
 * @property {string} [started] @property {string} [ended]
 * @property {number} [progress] from 0 to 1 @property {string} [message]
 * @property {string} text of its tokens @property {any} [output] @property {any} [error]
 */
/** @typedef {object} Snapshot What is known of an execution; never changed, but replaced.
 * @property {string} id @property {string} status @property {Connection} connection
 * @property {Record<string, Step>} steps in the order in which they began
 * @property {string} text of all tokens @property {number} progress of the step that told it last
 * @property {Record<string, {value: number, unit?: string}>} metrics
 * @property {{ask: string, question: any, schema: any, step?: string}[]} questions that wait for an answer
 * @property {Gap[]} gaps @property {any} result @property {{code: string, message: string} | null} error
 * @property {Event[]} events the newest @property {number} count of all @property {string} [lastEventId]
 */
const MOST_EVENTS = 500;
const MOST_TEXT = 1_000_000;

/** An execution of which nothing is known yet. @param {string} id @returns {Snapshot} */
export const blank = (id) => ({
  ...{ id, status: "unknown", connection: "connecting", steps: {}, text: "", progress: 0, metrics: {}, questions: [] },
  ...{ gaps: [], result: undefined, error: null, events: [], count: 0 },
});

/** What an event makes of a snapshot. Changes the one it is given; `execution` gives out copies.
 * @param {Snapshot} into @param {Event} event */
export function fold(into, event) {
  const { type, data, step: name } = event;
  into.count += 1;
  into.events.push(event);
  if (into.events.length > 2 * MOST_EVENTS) into.events = into.events.slice(-MOST_EVENTS);
  if (event.id) into.lastEventId = event.id;
  // A copy, so that who has a snapshot sees that it is another.
  const step = name === undefined ? undefined : { ...(into.steps[name] ?? { status: "running", attempt: 0, text: "" }) };
  if (name !== undefined && step) into.steps[name] = step;
  switch (type) {
    case "execution.queued":
      into.status = "queued";
      break;
    case "execution.started":
    case "execution.resumed":
      into.status = "running";
      break;
    case "execution.paused":
      into.status = "paused";
      break;
    case "execution.retrying":
      into.status = "queued";
      break;
    case "execution.cancel_requested":
      into.status = "cancelling";
      break;
    case "execution.completed":
      into.status = "completed";
      into.result = data?.result;
      break;
    case "execution.failed":
    case "execution.cancelled":
    case "execution.timed_out":
      into.status = type.slice(10);
      into.error = { code: data?.reason ?? into.status, message: data?.message ?? data?.reason ?? into.status };
      break;
    case "stream.gap":
      into.gaps = [...into.gaps, data];
      break;
    case "metric":
      into.metrics = { ...into.metrics, [data?.name]: { value: data?.value, unit: data?.unit } };
      break;
    case "review.required":
      into.questions = [...into.questions.filter(({ ask }) => ask !== data.ask), { ...data, step: name }];
      break;
    case "review.resolved":
      into.questions = into.questions.filter(({ ask }) => ask !== data?.ask);
      break;
  }
  if (TERMINAL.test(type)) into.questions = [];
  if (!step) return;
  switch (type) {
    case "step.started":
      Object.assign(step, { status: "running", attempt: step.attempt + 1, started: event.ts, ended: undefined });
      break;
    case "step.progress":
      Object.assign(step, { progress: data?.progress, message: data?.message });
      into.progress = data?.progress ?? into.progress;
      break;
    case "step.retrying":
      Object.assign(step, { status: "waiting", message: data?.message });
      break;
    case "step.completed":
    case "step.failed":
    case "step.skipped":
      Object.assign(step, { status: type.slice(5), ended: event.ts, output: data?.output, error: data?.message });
      break;
    case "token":
      step.text = (step.text + (data?.text ?? "")).slice(-MOST_TEXT);
      into.text = (into.text + (data?.text ?? "")).slice(-MOST_TEXT);
      break;
    case "token.reset":
      // The answer starts anew: nobody is to read half of two.
      step.text = "";
      into.text = Object.values(into.steps).map((each) => each.text).join("");
      break;
  }
}

/** A store of one execution, for any framework: `subscribe` and `getSnapshot`, changed at most once a frame.
 *
 * With `remember` (true) a reload of the page goes on where it was, from sessionStorage. Watching begins with the first
 * subscriber and stops with the last.
 * @param {string} id @param {Access & Watching & {remember?: boolean}} [options]
 */
export function execution(id, options = {}) {
  const key = `tailrace:${options.url ?? ""}:${id}`;
  const remember = options.remember ?? true;
  const memory = remember ? restored(key) : null;
  /** @type {Snapshot} */
  let draft = memory ?? blank(id);
  let shown = { ...draft };
  /** @type {Set<() => void>} */
  const listeners = new Set();
  /** @type {AbortController | undefined} */
  let watching;
  let isDue = false;

  const show = () => {
    isDue = false;
    shown = { ...draft, steps: { ...draft.steps }, events: draft.events.slice(-MOST_EVENTS) };
    for (const listener of [...listeners]) listener();
  };
  const changed = () => {
    if (isDue) return;
    isDue = true;
    frame(show);
  };
  const save = () => {
    if (!remember) return;
    try {
      sessionStorage.setItem(key, JSON.stringify({ ...draft, events: draft.events.slice(-50) }));
    } catch {
      // Full, or forbidden: a reload begins at the first event then.
    }
  };
  const run = async (/** @type {AbortController} */ own) => {
    try {
      const from = draft.lastEventId ?? options.from;
      const events = watch(id, {
        ...options,
        from,
        signal: own.signal,
        onGap: (gap) => {
          fold(draft, { type: "stream.gap", execution_id: id, data: gap });
          options.onGap?.(gap);
          changed();
        },
        onConnection: (connection) => {
          draft.connection = connection;
          options.onConnection?.(connection);
          changed();
        },
      });
      for await (const event of events) {
        fold(draft, event);
        changed();
      }
    } catch (error) {
      if (own.signal.aborted) return;
      const { code = "unknown", message = String(error) } = /** @type {any} */ (error);
      draft.error = { code, message };
    }
    changed();
    save();
  };
  const begin = () => {
    const isOver = draft.connection === "ended" && /^(completed|failed|cancelled|timed_out)$/.test(draft.status);
    if (watching || isOver) return;
    watching = new AbortController();
    globalThis.addEventListener?.("pagehide", save);
    run(watching);
  };
  const end = () => {
    globalThis.removeEventListener?.("pagehide", save);
    save();
    watching?.abort();
    watching = undefined;
  };
  return {
    /** @param {() => void} listener @returns {() => void} ends it */
    subscribe(listener) {
      listeners.add(listener);
      begin();
      return () => {
        listeners.delete(listener);
        // A framework that mounts twice subscribes again at once.
        setTimeout(() => listeners.size || end(), 0);
      };
    },
    getSnapshot: () => shown,
    close: end,
  };
}

/** @param {() => void} call */
function frame(call) {
  const { requestAnimationFrame: request, document } = /** @type {any} */ (globalThis);
  // A page in the background has no frames.
  if (request && document?.visibilityState === "visible") request(call);
  else setTimeout(call, 16);
}

/** @param {string} key @returns {Snapshot | null} */
function restored(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key) ?? "null");
  } catch {
    return null;
  }
}
