"""Thousands of viewers of each kind come and go: what is left of them, and what an event costs then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal, get_args

from bench.load.frames import TEXT, masked, upgrade
from tests.soak.gateway import Subject

Kind = Literal["sse", "ndjson", "websocket", "stream"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
AT_ONCE: Final = 250
# A burst that each of them is given.
BURST: Final = 20
EVENT_BYTES: Final = 1000
STAYING: Final = 20
# What an event costs is measured over so many, so many times.
EVENTS: Final = 500
ROUNDS: Final = 3
PATIENCE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Left:
    kind: Kind
    viewers: int
    rss_before: int
    rss_after: int
    us_before: float
    us_after: float

    @property
    def grown(self) -> float:
        return self.rss_after / self.rss_before - 1

    def __str__(self) -> str:
        return (
            f"{self.kind:10} {self.viewers:6,} viewers"
            f"  RSS {self.rss_before / 1e6:6.1f} -> {self.rss_after / 1e6:6.1f} MB"
            f" ({self.grown:+.1%})  {self.us_before:5.1f} -> {self.us_after:5.1f} us of CPU an event and viewer"
        )


class Viewer:
    """One connection, with a filter and a pace of its own as every third has."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._end = b""

    @classmethod
    async def watch(cls, subject: Subject, kind: Kind, executions: Sequence[str], number: int) -> Viewer:
        reader, writer = await asyncio.open_connection(*subject.address)
        types = f"custom.soak,custom.only{number}" if number % 3 == 0 else None
        coalesce = number % 3 == 1
        if kind == "websocket":
            op = {"op": "subscribe", "id": 1, "execution": executions[0], "from": "tail", "coalesce_ms": 50 * coalesce}
            writer.write(upgrade("localhost", "/v1/ws", "", {}))
            await reader.readuntil(b"\r\n\r\n")
            writer.write(masked(TEXT, json.dumps({**op, **({"types": types.split(",")} if types else {})}).encode()))
        else:
            query = "from=tail" + (f"&types={types}" if types else "") + ("&coalesce=50" if coalesce else "")
            path = f"/v1/executions/{executions[0]}/events?{query}"
            if kind == "stream":
                path = "/v1/stream?" + "".join(f"execution={each}&" for each in executions) + query
            accept = "application/x-ndjson" if kind == "ndjson" else "text/event-stream"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode())
        viewer = cls(reader, writer)
        await viewer.until(b"caught_up")
        return viewer

    async def until(self, text: bytes) -> None:
        while text not in self._end:
            got = await self._reader.read(65536)
            if not got:
                raise ConnectionError(f"closed before {text!r}: {self._end[-300:]!r}")
            self._end = self._end[-len(text) :] + got

    async def read_on(self) -> None:
        while await self._reader.read(65536):
            pass

    def close(self) -> None:
        self._writer.transport.abort()


async def come_and_go(subject: Subject, kind: Kind, name: str, count: int) -> None:
    """So many at once, each is there for a burst, then all leave."""
    executions = [f"{name}-a", f"{name}-b"]
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        a_producer(subject, executions[1]),
        a_producer(subject, executions[0]),
    ):
        viewers = await asyncio.gather(*(Viewer.watch(subject, kind, executions, number) for number in range(count)))
        publisher = subject.bus.publisher(executions[0])
        for number in range(BURST):
            await publisher.emit("custom.soak", {"last": number == BURST - 1, "pad": "x" * EVENT_BYTES})
        await publisher.aclose()
        await asyncio.gather(*(viewer.until(b'"last":true') for viewer in viewers))
        for viewer in viewers:
            viewer.close()


@asynccontextmanager
async def a_producer(subject: Subject, execution: str) -> AsyncGenerator[None, None]:
    publisher = subject.bus.publisher(execution)
    await publisher.append("custom.begun")
    yield
    await publisher.append("execution.completed", {})
    await publisher.aclose()


async def us_of_an_event(subject: Subject, kind: Kind, name: str) -> float:
    """CPU of the gateway for an event and viewer, the least of several rounds."""
    viewers = [await Viewer.watch(subject, kind, [name], 2) for _ in range(STAYING)]
    publisher = subject.bus.publisher(name)
    costs = []
    for turn in range(ROUNDS):
        before = subject.cpu_seconds()
        for number in range(EVENTS):
            # One by one: how many share a turn of the tail is not what this is about.
            mark = turn * EVENTS + number
            await publisher.append("custom.soak", {"pad": "x" * 100, "mark": f"<{mark}>"})
            await asyncio.gather(*(viewer.until(b"<%d>" % mark) for viewer in viewers))
        costs.append((subject.cpu_seconds() - before) * 1e6 / EVENTS / STAYING)
    await publisher.aclose()
    for viewer in viewers:
        viewer.close()
    return min(costs)


async def at_rest(subject: Subject) -> int:
    """Once nobody watches any more: the memory in use."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        # It is told by nobody.
        while await subject.metric("tailrace_watched_executions"):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    # Pages that were read are kept for five seconds.
    await asyncio.sleep(6)
    return subject.rss_bytes()


async def measure(subject: Subject, kind: Kind, viewers: int) -> Left:
    # What the first of a kind bring with them is no growth; as many at once, and as much to keep, as later.
    for number in range(4):
        await come_and_go(subject, kind, f"{kind}-first{number}", AT_ONCE)
    first = subject.bus.publisher(f"{kind}-cost")
    await first.append("custom.begun")
    await first.aclose()
    us_before = await us_of_an_event(subject, kind, f"{kind}-cost")
    rss_before = await at_rest(subject)
    for begun in range(0, viewers, AT_ONCE):
        await come_and_go(subject, kind, f"{kind}-{begun}", min(AT_ONCE, viewers - begun))
    rss_after = await at_rest(subject)
    us_after = await us_of_an_event(subject, kind, f"{kind}-cost")
    return Left(kind, viewers, rss_before, rss_after, us_before, us_after)
