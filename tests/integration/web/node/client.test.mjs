// The JavaScript client in Node, against a live gateway behind a proxy that cuts, and against a server of the worst answers.
// GATEWAY is its URL, through the proxy; MODULE the module; CUTS behind how many bytes of a response to cut.

import assert from "node:assert/strict";
import http from "node:http";
import { after, test } from "node:test";

const { GATEWAY, MODULE } = process.env;
const { TailraceError, activity, blank, cancel, execution, fold, state, submit, watch } = await import(MODULE);
// Full jitter makes no test wait.
Math.random = () => 0;

/** @returns {Promise<any[]>} */
async function all(events) {
  const seen = [];
  for await (const event of events) seen.push(event);
  return seen;
}

/** A server that gives each request the next of these answers, and hangs where there is none. */
async function scripted(...answers) {
  const asked = [];
  const open = new Set();
  const server = http.createServer((request, response) => {
    asked.push({ url: request.url, headers: request.headers });
    const answer = answers.shift();
    if (answer === undefined) return;
    response.writeHead(answer.status ?? 200, { "Content-Type": "text/event-stream", ...answer.headers });
    for (const { id, ...line } of answer.lines ?? []) {
      response.write(`${id ? `id: ${id}\n` : ": hb\n"}data: ${JSON.stringify(line)}\n\n`);
    }
    if (answer.raw) response.write(answer.raw);
    if (!answer.hangs) response.end();
  });
  server.on("connection", (socket) => open.add(socket) && socket.on("close", () => open.delete(socket)));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${server.address().port}`, asked, open };
}

const entry = (n, type = "custom.n", more = {}) => ({ id: `1-${n}`, type, execution_id: "x", ts: "", data: { n }, ...more });
const last = (n) => entry(n, "execution.completed", { data: { result: n } });

test("a whole log comes once and in order, wherever its first response is cut", { timeout: 80_000 }, async () => {
  const whole = await all(watch("log", { url: GATEWAY }));
  assert.equal(whole.at(-1).type, "execution.completed");
  assert.deepEqual(whole.map(({ id }) => Number(id.split("-")[1])), whole.map((_, index) => index + 1));
  const cuts = JSON.parse(process.env.CUTS);
  const work = async () => {
    for (let cut = cuts.pop(); cut !== undefined; cut = cuts.pop()) {
      let calls = 0;
      const cutting = (url, init) => fetch(calls++ ? url : `${url}${url.includes("?") ? "&" : "?"}cut=${cut}`, init);
      const seen = await all(watch("log", { url: GATEWAY, fetch: cutting }));
      assert.deepEqual(seen, whole, `cut after ${cut} bytes`);
    }
  };
  await Promise.all(Array.from({ length: 8 }, work));
});

test("a loop that is left closes its connection, and another goes on where it was", async () => {
  const server = await scripted({ lines: [entry(1), entry(2)], hangs: true }, { lines: [entry(3), last(4)] });
  const events = watch("x", { url: server.url });
  for await (const event of events) if (event.id === "1-2") break;
  assert.equal(events.lastEventId, "1-2");
  while (server.open.size) await new Promise((resolve) => setTimeout(resolve, 5));
  const rest = await all(watch("x", { url: server.url, from: events.lastEventId }));
  assert.deepEqual(rest.map(({ id }) => id), ["1-3", "1-4"]);
  assert.equal(server.asked[1].headers["last-event-id"], "1-2");
});

test("what passes is tried again as it says, and progress begins the backoff anew", async () => {
  const server = await scripted(
    { status: 503, headers: { "Retry-After": "0" } },
    { status: 502 },
    { headers: { "Content-Type": "text/html" }, raw: "<h1>Welcome to the hotel</h1>" },
    { status: 429, headers: { "Retry-After": "0" } },
    { lines: [entry(1)], raw: 'id: 1-2\ndata: {"type":"custom.n"}\n' },
    { lines: [{ type: "stream.reconnect", retry_ms: 1 }] },
    { lines: [{ type: "stream.error", code: "redis_unavailable", retry_ms: 1 }] },
    { lines: [] },
    { lines: [entry(2), last(3)] },
  );
  const seen = [];
  const told = [];
  for await (const { id } of watch("x", { url: server.url, onConnection: (c) => told.push(c) })) seen.push(id);
  assert.deepEqual(seen, ["1-1", "1-2", "1-3"]);
  assert.equal(server.asked.length, 9);
  assert.deepEqual([told[0], told.at(-1), told.includes("waiting")], ["connecting", "ended", true]);
});

test("a connection that is silent for three heartbeats is given up", async () => {
  const server = await scripted({ lines: [entry(1)], hangs: true }, { lines: [last(2)] });
  const seen = await all(watch("x", { url: server.url, heartbeatSeconds: 0.05 }));
  assert.deepEqual(seen.map(({ id }) => id), ["1-1", "1-2"]);
});

test("a credential is renewed once, and then told", async () => {
  let keys = 0;
  const server = await scripted(
    { status: 401, raw: '{"code":"token_expired","detail":"expired"}' },
    { lines: [entry(1), { type: "stream.error", code: "token_expired", detail: "expired" }] },
    { lines: [last(2)] },
  );
  const headers = async () => ({ Authorization: `Bearer ${++keys}` });
  assert.equal((await all(watch("x", { url: server.url, headers }))).length, 2);
  assert.deepEqual(server.asked.map(({ headers: { authorization } }) => authorization), ["Bearer 1", "Bearer 2", "Bearer 3"]);
  const strict = await scripted(...Array(2).fill({ status: 401, raw: '{"code":"unauthenticated","detail":"who?"}' }));
  await assert.rejects(all(watch("x", { url: strict.url, headers })), { code: "unauthenticated", status: 401 });
  assert.equal(strict.asked.length, 2);
});

test("what trying again does not cure is thrown, and 204 is the end", async () => {
  const server = await scripted({ status: 404, raw: '{"code":"execution_unknown","detail":"none"}' }, { status: 204 });
  await assert.rejects(all(watch("x", { url: server.url })), (error) => {
    return error instanceof TailraceError && error.code === "execution_unknown" && error.status === 404;
  });
  assert.deepEqual(await all(watch("x", { url: server.url, from: "1-9" })), []);
});

test("a gap is told, by whoever sees it, and never twice", async () => {
  const gap = { requested: "1-1", earliest: "1-5", latest: "1-5", reason: "trimmed" };
  const lines = [entry(1), { type: "stream.gap", execution_id: "x", ...gap }, entry(5), entry(6), entry(9), last(10)];
  const gaps = [];
  const server = await scripted({ lines }, { lines }, { lines: [entry(1), entry(9), last(12)] });
  const seen = await all(watch("x", { url: server.url, onGap: (each) => gaps.push(each) }));
  assert.deepEqual(seen.map(({ id }) => id), ["1-1", "1-5", "1-6", "1-9", "1-10"]);
  assert.deepEqual(gaps, [gap, { requested: "1-6", earliest: "1-9", latest: "1-9", reason: "numbering" }]);
  const told = await all(watch("x", { url: server.url }));
  assert.deepEqual(told.filter(({ type }) => type === "stream.gap").map(({ data }) => data.reason), ["trimmed", "numbering"]);
  // A filter leaves numbers out.
  assert.equal((await all(watch("x", { url: server.url, types: ["custom.*"] }))).length, 3);
});

test("an aborted signal ends it at once, also while it waits", async () => {
  const controller = new AbortController();
  const server = await scripted({ status: 503, headers: { "Retry-After": "60" } });
  const reading = all(watch("x", { url: server.url, signal: controller.signal }));
  while (!server.asked.length) await new Promise((resolve) => setTimeout(resolve, 5));
  controller.abort(new Error("enough"));
  await assert.rejects(reading, { message: "enough" });
});

test("work is submitted, seen in the activity, cancelled and asked for", async () => {
  const { execution_id: id } = await submit("document", {}, { url: GATEWAY, queue: "nobody", labels: { user: "ann" } });
  for await (const event of activity({ url: GATEWAY, from: "0" })) if (event.execution_id === id) break;
  assert.equal((await state(id, { url: GATEWAY })).status, "queued");
  await cancel(id, { url: GATEWAY, reason: "enough" });
  assert.equal((await all(watch(id, { url: GATEWAY }))).at(-1).type, "execution.cancelled");
  await assert.rejects(cancel("none", { url: GATEWAY }), { code: "execution_unknown", status: 404 });
});

test("a store is told at most once a frame, survives being mounted twice, and remembers", async () => {
  const kept = new Map();
  globalThis.sessionStorage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, text) => kept.set(key, text) };
  const step = { step: "write" };
  const lines = [
    ...[entry(1, "execution.started", { data: { attempt: 1 } }), entry(2, "step.started", { ...step, data: {} })],
    ...["half ", "a "].map((text, n) => entry(3 + n, "token", { ...step, data: { text } })),
    entry(5, "token.reset", { ...step, data: { attempt: 2 } }),
    entry(6, "token", { ...step, data: { text: "whole" } }),
    entry(7, "review.required", { ...step, data: { ask: "q", question: "?", schema: {} } }),
  ];
  const server = await scripted(
    { lines, hangs: true },
    { lines: [entry(8, "step.completed", { ...step, data: { output: 1 } }), last(9)] },
  );
  const store = execution("x", { url: server.url });
  let changes = 0;
  const leave = store.subscribe(() => changes++);
  leave();
  const stay = store.subscribe(() => changes++);
  while (store.getSnapshot().count < 7) await new Promise((resolve) => setTimeout(resolve, 5));
  const before = store.getSnapshot();
  assert.deepEqual([before.status, before.text, before.questions.length], ["running", "whole", 1]);
  assert.ok(changes < 7);
  assert.equal(store.getSnapshot(), before);
  stay();
  await new Promise((resolve) => setTimeout(resolve, 20));
  const again = execution("x", { url: server.url });
  assert.equal(again.getSnapshot().text, "whole");
  again.subscribe(() => {});
  while (again.getSnapshot().status !== "completed") await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(server.asked[1].headers["last-event-id"], "1-7");
  const { steps, questions, result, count } = again.getSnapshot();
  assert.deepEqual([steps.write.status, steps.write.text, questions, result, count], ["completed", "whole", [], 9, 9]);
});

test("100,000 events are folded within a second", () => {
  const into = blank("x");
  const begun = performance.now();
  for (let n = 1; n <= 100_000; n++) fold(into, entry(n, "token", { step: `s${n % 50}`, data: { text: "word " } }));
  const took = performance.now() - begun;
  assert.equal(into.count, 100_000);
  assert.ok(into.events.length <= 1000);
  console.log(`folded in ${took.toFixed(0)} ms`);
  assert.ok(took < 1000 * Number(process.env.STRETCH ?? 1));
});
