"""Requests whose head has not arrived yet: few bytes, and not for ever.

Whoever opens a connection and says nothing, or a byte now and then, costs a file descriptor and nothing more, until its
time is over. uvicorn has a limit for neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from tailrace.gateway.asgi.slim import SlimEvent, SlimFlow, SlimQueue

MAX_HEAD_BYTES: Final = 64 * 1024
SWEEP_SECONDS: Final = 1.0

_CLOSE: Final = b"content-type: text/plain; charset=utf-8\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TIMEOUT: Final = b"HTTP/1.1 408 Request Timeout\r\n" + _CLOSE
_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\n" + _CLOSE


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
        self._awaited: dict[HeadBoundProtocol, _Head] = {}
        self._timer: asyncio.TimerHandle | None = None

    def expect(self, connection: HeadBoundProtocol) -> None:
        if connection in self._awaited:
            # A first byte wins no time.
            return
        loop = asyncio.get_running_loop()
        self._awaited[connection] = _Head(loop.time() + self.head_seconds)
        if self._timer is None:
            self._timer = loop.call_later(SWEEP_SECONDS, self._sweep)

    def arrived(self, connection: HeadBoundProtocol) -> None:
        self._awaited.pop(connection, None)

    def received(self, connection: HeadBoundProtocol, size_bytes: int) -> None:
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


class HeadBoundProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with bounds for what comes before it asks the application, and slimmer. See ``bound_to``.

    It has no attributes of its own: one more than uvicorn's would cost each connection more than a kilobyte.
    """

    arrivals: Arrivals

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.pipeline = SlimQueue()  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = SlimFlow(transport)
        self.arrivals.expect(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.arrivals.arrived(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # By now the parser has told us of a head that is complete.
        self.arrivals.received(self, len(data))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.arrivals.expect(self)

    def on_headers_complete(self) -> None:
        self.arrivals.arrived(self)
        before = self.cycle
        super().on_headers_complete()
        # There is none for a request that is going to be a WebSocket. Nobody has looked at a new one's event yet.
        if self.cycle is not before:
            self.cycle.message_event = SlimEvent()  # type: ignore[assignment]

    def refuse(self, answer: bytes) -> None:
        """Close, with an answer where nobody else is being answered."""
        # Before the first request there is none, whatever uvicorn's annotation says.
        cycle: RequestResponseCycle | None = self.cycle
        if answer and (cycle is None or cycle.response_complete):
            self.transport.write(answer)
        self.transport.close()


def bound_to(arrivals: Arrivals) -> type[HeadBoundProtocol]:
    """The protocol for ``uvicorn.Config``, which makes it by itself and gives it nothing of ours."""
    members: dict[str, Any] = {"arrivals": arrivals}
    return type("HeadBoundProtocol", (HeadBoundProtocol,), members)
