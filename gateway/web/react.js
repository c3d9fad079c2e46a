// @ts-check
// React 18 and later: `const { status, text } = useExecution("build-7")`.

import { useEffect, useMemo, useSyncExternalStore } from "react";
import { blank, execution } from "./tailrace.js";

/** What is known of an execution, live; a new snapshot at most once a frame. See `execution` for the options.
 *
 * `url`, `id`, `from` and `remember` begin anew when they change; functions are taken as they are at the first render.
 * @param {string} id @param {Parameters<typeof execution>[1]} [options]
 * @returns {import("./tailrace.js").Snapshot}
 */
export function useExecution(id, options = {}) {
  // eslint-disable-next-line react-hooks/exhaustive-deps -- an object that is new at each render is the same options
  const store = useMemo(() => execution(id, options), [id, options.url, options.from, options.remember]);
  const first = useMemo(() => blank(id), [id]);
  useEffect(() => () => store.close(), [store]);
  // On a server nothing is known yet.
  return useSyncExternalStore(store.subscribe, store.getSnapshot, () => first);
}
