"""Requests whose head has not arrived yet: few bytes, and not for ever.

A client that opens a connection and sends nothing, or a byte now and then, costs a file descriptor and nothing more,
until its time is over. uvicorn has a limit for neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

MAX_HEAD_BYTES: Final = 64 * 1024
SWEEP_SECONDS: Final = 1.0

_CLOSE: Final = b"content-type: text/plain; charset=utf-8\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TIMEOUT: Final = b"HTTP/1.1 408 Request Timeout\r\n" + _CLOSE
_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\n" + _CLOSE


class Awaited(Protocol):
    """A connection that has not said yet what it wants."""

    def refuse(self, answer: bytes) -> None: ...


class _Head:
    """A head on its way: until when it may be, and how much of it there is."""

    __slots__ = ("deadline", "size_bytes")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.size_bytes = 0


class Arrivals:
    """All connections of which a head is awaited, the longest waiting first; one timer looks after them."""

    def __init__(self, *, head_seconds: float, count: Callable[[str], None]) -> None:
        self.head_seconds = head_seconds
        self.count = count
        self._awaited: dict[Awaited, _Head] = {}
        self._timer: asyncio.TimerHandle | None = None

    def expect(self, connection: Awaited) -> None:
        if connection in self._awaited:
            # A first byte wins no time.
            return
        loop = asyncio.get_running_loop()
        self._awaited[connection] = _Head(loop.time() + self.head_seconds)
        if self._timer is None:
            self._timer = loop.call_later(SWEEP_SECONDS, self._sweep)

    def arrived(self, connection: Awaited) -> None:
        self._awaited.pop(connection, None)

    def received(self, connection: Awaited, size_bytes: int) -> None:
        """Count what belongs to no complete head, and refuse too much of it."""
        head = self._awaited.get(connection)
        if head is None:
            return
        head.size_bytes += size_bytes
        if head.size_bytes > MAX_HEAD_BYTES:
            del self._awaited[connection]
            self.count("request_heads_too_large")
            connection.refuse(_TOO_LARGE)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._awaited:
            connection, head = next(iter(self._awaited.items()))
            if head.deadline > now:
                break
            del self._awaited[connection]
            self.count("request_heads_late")
            # Who has said nothing is told nothing.
            connection.refuse(_TIMEOUT if head.size_bytes else b"")
        self._timer = loop.call_later(SWEEP_SECONDS, self._sweep) if self._awaited else None
