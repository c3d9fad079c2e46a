"""The viewers process: thousands of connections, every event checked, as little work as that allows.

Orders are lines of JSON on stdin, answers lines of JSON on stdout:

    {"op": "open", "watch": {..}, "executions": [..], "viewers": n, "seen": k, "cursors": [..] or null}
        opens n viewers, dealt to the executions and ports in turn; waits until each has events 1..k of its
        run, or, with cursors (one for each execution, of event k), its response. `seconds` is from the
        first connect until all have the header.
    {"op": "mark", "sample_every": n}          forget what was counted; sample latency of every nth read
    {"op": "window"}                           what came since the mark
    {"op": "settle", "sent": [..], "quiet_seconds": s}
        waits until every viewer has all that was sent to its run, or nothing came for so long; then the
        exact account: lost, gaps, duplicates, foreign, cut. `seconds` is from the last mark to the last event.
    {"op": "cursors"}                          the id of the last event each viewer had: one for each run
    {"op": "close"}

`watch` is {"kind": "sse"|"ws", "ports", "path", "headers", "cursor_header", "cursor_query", "subscribe",
"subprotocol"}; `{execution}` and `{cursor}` are replaced in path, cursor query and subscribe.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from typing import Any, Final

import uvloop

from bench.load.frames import TEXT, masked, upgrade
from bench.load.scan import Viewer
from bench.load.session import Session, SocketSession, Tally
from bench.stats import percentile

_CONNECTING: Final = 256
_OPEN_SECONDS: Final = 60.0
_SLICE_SECONDS: Final = 0.25


class Viewers:
    def __init__(self) -> None:
        self._sessions: list[Session] = []
        self._tally = Tally()
        self._marked_seconds = time.monotonic()
        self._marked_cpu_seconds = time.process_time()

    async def open(self, order: dict[str, Any]) -> dict[str, Any]:
        watch, seen, cursors = order["watch"], order["seen"], order["cursors"]
        executions = order["executions"]
        connecting = asyncio.Semaphore(_CONNECTING)
        offset = len(self._sessions)
        fresh = [
            self._session(watch, executions, number % len(executions), seen, cursors)
            for number in range(offset, offset + order["viewers"])
        ]
        self._sessions += fresh
        started = time.monotonic()

        async def connect(session: Session, port: int) -> None:
            async with connecting, asyncio.timeout(_OPEN_SECONDS):
                await asyncio.get_running_loop().create_connection(lambda: session, "127.0.0.1", port)
                await session.opened

        ports = watch["ports"]
        results = await asyncio.gather(
            *(connect(session, ports[number % len(ports)]) for number, session in enumerate(fresh, offset)),
            return_exceptions=True,
        )
        seconds = time.monotonic() - started
        failures = [repr(result) for result in results if isinstance(result, BaseException)]
        if seen and not cursors and not failures:
            await asyncio.wait({session.finished for session in fresh}, timeout=_OPEN_SECONDS)
            failures += ["has not got the first events"] * sum(s.viewer.next <= seen for s in fresh)
        gc.collect()
        gc.freeze()
        return {"failed": len(failures), "reason": failures[0] if failures else "", "seconds": seconds}

    def _session(
        self, watch: dict[str, Any], executions: list[str], run: int, seen: int, cursors: list[str] | None
    ) -> Session:
        cursor = cursors[run] if cursors else ""

        def filled(template: str) -> str:
            return (
                template.replace("{execution}", executions[run]).replace("{cursor}", cursor).replace("{run}", str(run))
            )

        viewer = Viewer(run, seen + 1 if cursors else 1)
        path, headers = filled(watch["path"]), dict(watch["headers"])
        if cursors and watch["cursor_query"]:
            path += filled(watch["cursor_query"])
        elif cursors:
            headers[watch["cursor_header"]] = cursor
        if watch["kind"] == "ws":
            subscribe = filled(watch["subscribe"]).encode()
            request = upgrade("127.0.0.1", path, watch["subprotocol"], headers)
            return SocketSession(viewer, request, self._tally, seen, masked(TEXT, subscribe) if subscribe else b"")
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n{fields}\r\n".encode()
        return Session(viewer, request, self._tally, seen)

    async def mark(self, order: dict[str, Any]) -> dict[str, Any]:
        self._tally.reset()
        self._tally.sample_every = order["sample_every"]
        self._marked_seconds = time.monotonic()
        self._marked_cpu_seconds = time.process_time()
        return {}

    async def window(self, _order: dict[str, Any]) -> dict[str, Any]:
        tally = self._tally
        answer = {
            "seconds": time.monotonic() - self._marked_seconds,
            "cpu_seconds": time.process_time() - self._marked_cpu_seconds,
            "events": tally.events,
            "chunks": tally.chunks,
            "bytes": tally.received_bytes,
        }
        ordered = sorted(tally.latencies_ns)
        return answer | {
            "samples": len(ordered),
            "p50_ms": percentile(ordered, 0.50) / 1e6,
            "p99_ms": percentile(ordered, 0.99) / 1e6,
            "max_ms": (ordered[-1] if ordered else 0) / 1e6,
        }

    async def settle(self, order: dict[str, Any]) -> dict[str, Any]:
        sent = order["sent"]
        for session in self._sessions:
            session.expect(sent[session.viewer.run])
        waiting: set[asyncio.Future[None]] = {session.finished for session in self._sessions}
        arrived_seconds, before = time.monotonic(), -1
        while waiting and time.monotonic() - arrived_seconds < order["quiet_seconds"]:
            _, waiting = await asyncio.wait(waiting, timeout=_SLICE_SECONDS)
            if self._tally.events != before:
                arrived_seconds, before = time.monotonic(), self._tally.events
        seconds = arrived_seconds - self._marked_seconds
        viewers = [session.viewer for session in self._sessions]
        return {
            "seconds": seconds,
            "lost": sum(max(0, sent[viewer.run] + 1 - viewer.next) for viewer in viewers),
            "gaps": sum(viewer.gaps for viewer in viewers),
            "duplicates": sum(viewer.duplicates for viewer in viewers),
            "foreign": sum(viewer.foreign for viewer in viewers),
            "cut": sum(session.cut for session in self._sessions),
        }

    async def cursors(self, _order: dict[str, Any]) -> dict[str, Any]:
        return {"cursors": [session.last_id() for session in self._sessions]}

    async def close(self, _order: dict[str, Any]) -> dict[str, Any]:
        for session in self._sessions:
            session.close()
        self._sessions.clear()
        await asyncio.sleep(0)
        return {}


async def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    viewers = Viewers()
    orders = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    operations = {
        "open": viewers.open,
        "mark": viewers.mark,
        "window": viewers.window,
        "settle": viewers.settle,
        "cursors": viewers.cursors,
        "close": viewers.close,
    }
    while line := await orders.readline():
        order = json.loads(line)
        print(json.dumps(await operations[order["op"]](order)), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
