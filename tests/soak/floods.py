"""A hostile client's flood beside one that behaves: how long that has to wait, at worst.

Each is a process of its own: the one that measures must not be held up by what it measures.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Final

from bench.load.frames import PING, PONG, TEXT, masked, upgrade
from tests.soak.gateway import Subject

BUDGET_MS: Final = 100.0
EVENT_SECONDS: Final = 0.02
CONNECTIONS: Final = 4
_GET: Final = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n"
_CHUNK: Final = 256 * 1024
_OPS: Final = (
    json.dumps({"op": "subscribe", "id": 1, "execution": "flooded"}).encode(),
    json.dumps({"op": "unsubscribe", "id": 2, "execution": "flooded"}).encode(),
)

Address = tuple[str, int]
Flood = Callable[[Address, float], None]


@dataclass(frozen=True, slots=True)
class Suffered:
    kind: str
    events_ms: list[float]
    answers_ms: list[float]
    first_ms: float

    @property
    def worst_ms(self) -> float:
        """Of clients that are connected. A new one first waits in the kernel, behind all who came before it."""
        return max(self.events_ms + self.answers_ms)

    def __str__(self) -> str:
        rows = f"events {_row(self.events_ms)}   answers {_row(self.answers_ms)}"
        return f"{self.kind:14} worst {self.worst_ms:6.1f} ms   {rows}   first answer {self.first_ms:6.1f} ms"


def _row(values: list[float]) -> str:
    p99 = statistics.quantiles(values, n=100)[98]
    return f"{len(values):4} median {statistics.median(values):5.1f} p99 {p99:5.1f} worst {max(values):5.1f} ms"


async def measure(subject: Subject, kind: str, seconds: float) -> Suffered:
    async with aclosing(subject.bus.publisher("flooded")) as publisher:
        await publisher.append("custom.begun")
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=KINDS[kind], args=(subject.address, time.time() + seconds + 1))
    process.start()
    try:
        # Its own start.
        await asyncio.sleep(1)
        events, (first, *answers) = await asyncio.gather(_events(subject, kind, seconds), _answers(subject, seconds))
    finally:
        process.terminate()
        await asyncio.to_thread(process.join)
    return Suffered(kind, events, answers, first)


async def _events(subject: Subject, kind: str, seconds: float) -> list[float]:
    """From an event's append until it has come to its viewer."""
    name = f"calm-{kind.replace(' ', '-')}"
    publisher = subject.bus.publisher(name)
    await publisher.append("custom.begun")
    reader, writer = await asyncio.open_connection(*subject.address)
    writer.write(_GET % f"/v1/executions/{name}/events?from=tail".encode())
    await reader.readuntil(b"stream.caught_up")
    waits = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        begun = time.perf_counter()
        await publisher.append("custom.calm")
        await reader.readuntil(b"custom.calm\n")
        waits.append((time.perf_counter() - begun) * 1000)
        await asyncio.sleep(EVENT_SECONDS)
    writer.close()
    await publisher.aclose()
    return waits


async def _answers(subject: Subject, seconds: float) -> list[float]:
    reader, writer = await asyncio.open_connection(*subject.address)
    waits = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        begun = time.perf_counter()
        writer.write(_GET % b"/v1/executions/flooded")
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        waits.append((time.perf_counter() - begun) * 1000)
        await asyncio.sleep(EVENT_SECONDS)
    writer.close()
    return waits


# What the hostile do, in a process of their own; again and again until the time is over, however they are refused.


def _connected(address: Address, until: float) -> Iterator[socket.socket]:
    while time.time() < until:
        try:
            with socket.create_connection(address, timeout=5) as connection:
                yield connection
        except OSError:
            continue


def _flood(address: Address, until: float, greeting: bytes, data: bytes, *, reads: bool) -> None:
    """Send the same as fast as it is taken, over several connections; one that is closed is opened again."""

    async def one() -> None:
        while time.time() < until:
            with suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection(*address)
                try:
                    if greeting:
                        writer.write(greeting)
                        await reader.readuntil(b"\r\n\r\n")
                    eating = asyncio.create_task(_eat(reader)) if reads else None
                    while time.time() < until and not writer.is_closing() and not (eating and eating.done()):
                        writer.write(data)
                        # A socket whose answers are not read takes no more at last.
                        async with asyncio.timeout(1):
                            await writer.drain()
                    if eating:
                        eating.cancel()
                except TimeoutError:
                    pass
                finally:
                    writer.transport.abort()

    async def all_of_them() -> None:
        await asyncio.gather(*(one() for _ in range(CONNECTIONS)))

    asyncio.run(all_of_them())


async def _eat(reader: asyncio.StreamReader) -> None:
    with suppress(OSError):
        while await reader.read(_CHUNK):
            pass


class _Frames:
    """Of a WebSocket, the same small frame over and over."""

    def __init__(self, frame: bytes, first: bytes, *, reads: bool) -> None:
        self._frame = frame
        self._first = first
        self._reads = reads

    def __call__(self, address: Address, until: float) -> None:
        data = self._first + self._frame * (_CHUNK // len(self._frame))
        _flood(address, until, upgrade("localhost", "/v1/ws", "", {}), data, reads=self._reads)


class _Requests:
    """Pipelined."""

    def __init__(self, request: bytes) -> None:
        self._request = request

    def __call__(self, address: Address, until: float) -> None:
        _flood(address, until, b"", self._request * 1000, reads=True)


def _churn(address: Address, until: float) -> None:
    """Connections that are opened, ask for a stream, and are gone."""
    for connection in _connected(address, until):
        connection.sendall(_GET % b"/v1/executions/flooded/events")


def _unread_bodies(address: Address, until: float) -> None:
    """Long bodies that come slowly, over as many connections as there may be."""
    head = b"POST /v1/executions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += b"Content-Length: 900000\r\n\r\n"
    held: list[socket.socket] = []
    for connection in _connected(address, until):
        connection.sendall(head)
        held.append(connection.dup())
        if len(held) >= 500:
            for each in held:
                with suppress(OSError):
                    each.sendall(b" ")
            time.sleep(0.01)
            held.pop(0).close()


def _unread_streams(address: Address, until: float) -> None:
    """Streams of several executions that nobody reads."""
    held: list[socket.socket] = []
    for connection in _connected(address, until):
        connection.sendall(_GET % b"/v1/stream?execution=flooded&execution=calm")
        held.append(connection.dup())
        if len(held) >= 200:
            held.pop(0).close()
        time.sleep(0.005)


def _nothing(address: Address, until: float) -> None:
    del address
    time.sleep(max(0.0, until - time.time()))


_PIECE: Final = bytes([masked(TEXT, b"")[0] & 0x7F]) + masked(TEXT, b"")[1:]
KINDS: Final[dict[str, Any]] = {
    "nothing": _nothing,
    "pings": _Frames(masked(PING, b""), b"", reads=True),
    "pings unread": _Frames(masked(PING, b""), b"", reads=False),
    "pongs": _Frames(masked(PONG, b""), b"", reads=True),
    "continuations": _Frames(masked(0x0, b""), _PIECE, reads=True),
    "ping ops": _Frames(masked(TEXT, b'{"op":"ping","id":1}'), b"", reads=True),
    "subscriptions": _Frames(b"".join(masked(TEXT, op) for op in _OPS), b"", reads=True),
    "malformed ops": _Frames(masked(TEXT, b"{"), b"", reads=True),
    "pipelining": _Requests(_GET % b"/v1/executions/flooded"),
    "pages": _Requests(_GET % b"/v1/executions/flooded/events?last=900&limit=1"),
    "bad requests": _Requests(_GET % b"/v1/executions/x/events?types=A"),
    "churn": _churn,
    "slow bodies": _unread_bodies,
    "unread streams": _unread_streams,
}
