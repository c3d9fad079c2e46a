"""One viewer's connection: SSE or WebSocket, read as bytes."""

from __future__ import annotations

import asyncio
import time
from array import array
from typing import cast

from bench.load.frames import Unframer
from bench.load.scan import Chunk, Viewer


class Tally:
    """What all viewers of this process received since the last mark, and the chunk last parsed."""

    def __init__(self) -> None:
        self.chunk = Chunk(b"")
        self.sample_every = 1
        self.reset()

    def reset(self) -> None:
        self.events = 0
        self.chunks = 0
        self.received_bytes = 0
        self.latencies_ns = array("q")


class Session(asyncio.Protocol):
    """SSE. ``opened`` is set when the response's header has come, or failed with the reason."""

    def __init__(self, viewer: Viewer, request: bytes, tally: Tally, until: int) -> None:
        self.viewer = viewer
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.cut = False
        self.transport: asyncio.Transport | None = None
        self._request = request
        self._tally = tally
        self._until = until
        self._head: bytes | None = b""
        self._last_read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one without being a subclass
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            data = self._read_head(data)
            if not data:
                return
        self._take(data)

    def _read_head(self, data: bytes) -> bytes:
        assert self._head is not None
        self._head += data
        head, blank, rest = self._head.partition(b"\r\n\r\n")
        if not blank:
            return b""
        self._head = None
        if not self.opened.done():
            status = head.split(b"\r\n", 1)[0]
            if b" 200" in status or b" 101" in status:
                self._accepted()
            else:
                self.opened.set_exception(ConnectionError((status + b" " + rest[:300]).decode(errors="replace")))
        return rest

    def _accepted(self) -> None:
        self.opened.set_result(None)

    def _take(self, data: bytes) -> None:
        tally = self._tally
        viewer = self.viewer
        self._last_read = data
        tally.chunks += 1
        tally.received_bytes += len(data)
        if viewer.carry:
            chunk = Chunk(viewer.carry + data)
        elif data == tally.chunk.data:
            chunk = tally.chunk
        else:
            chunk = tally.chunk = Chunk(data)
        viewer.take(chunk)
        tally.events += chunk.count
        if not tally.chunks % tally.sample_every:
            tally.latencies_ns.extend(chunk.latencies_ns(time.monotonic_ns()))
        if viewer.next > self._until and not self.finished.done():
            self.finished.set_result(None)

    def last_id(self) -> str:
        """The id of the last event, for one who comes back; "" when the last read had none."""
        _, found, rest = self._last_read.rpartition(b"id: ")
        return rest.partition(b"\n")[0].decode() if found else ""

    def expect(self, until: int) -> None:
        """Await ``finished`` for the event of this number."""
        self._until = until
        if self.finished.done():
            self.finished = asyncio.get_running_loop().create_future()
        if self.viewer.next > until:
            self.finished.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.cut = True
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionError("closed before the response"))
        if not self.finished.done():
            self.finished.set_result(None)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class SocketSession(Session):
    """WebSocket: subscribes once it is open; unframes before it looks for marks."""

    def __init__(self, viewer: Viewer, request: bytes, tally: Tally, until: int, subscribe: bytes) -> None:
        super().__init__(viewer, request, tally, until)
        self._subscribe = subscribe
        self._unframer = Unframer()

    def _accepted(self) -> None:
        assert self.transport is not None
        if self._subscribe:
            self.transport.write(self._subscribe)
        super()._accepted()

    def _take(self, data: bytes) -> None:
        payload, answer = self._unframer.feed(data)
        if answer and self.transport is not None:
            self.transport.write(answer)
        if payload:
            super()._take(payload)
