// What a TypeScript project sees of the modules.
import { TailraceError, cancel, execution, submit, watch, type Event, type Snapshot } from "./tailrace.js";
import { useExecution } from "./react.js";

export async function texts(id: string, controller: AbortController): Promise<string[]> {
  const found: string[] = [];
  const events = watch(id, { url: "/live", headers: async () => ({ Authorization: "x" }), signal: controller.signal });
  for await (const event of events) {
    const entry: Event = event;
    if (entry.type === "token") found.push(entry.data.text);
  }
  const last: string | undefined = events.lastEventId;
  if (last === undefined) throw new TailraceError("none", "nothing came");
  return found;
}

export function stored(id: string): string {
  const store = execution(id, { remember: false });
  const leave: () => void = store.subscribe(() => {});
  leave();
  const snapshot: Snapshot = store.getSnapshot();
  return snapshot.steps["write"]?.text ?? snapshot.text;
}

export const Answer = (id: string): string => useExecution(id, { url: "/live" }).text;
export const go = async (): Promise<void> => void (await cancel((await submit("document", {})).execution_id));

// @ts-expect-error -- there is no such option
watch("x", { heartbeat: 3 });
