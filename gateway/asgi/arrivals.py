"""Connections that wait for a request, or for the rest of one that has been answered: few bytes, and not for ever.

A client that opens a connection and sends nothing, or a byte now and then, costs a file descriptor and nothing more,
until its time is over. uvicorn has a limit for neither, nor for how many of them one address has.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from tailrace.gateway.errors import GatewayError

MAX_HEAD_BYTES: Final = 64 * 1024
SWEEP_SECONDS: Final = 1.0

# Requests that came before the answer to the first: a client that floods is closed.
MAX_PIPELINED: Final = 32


@dataclass(frozen=True, slots=True)
class Refusals:
    """Complete responses, each of which closes its connection."""

    late: bytes
    too_large: bytes
    malformed: bytes
    too_many: bytes


class HeadTooLargeError(GatewayError):
    """A head has more bytes than it may, and has been refused."""


class PipelineTooLongError(GatewayError):
    """A client sends more requests than it waits for answers."""


class Awaited(Protocol):
    """A connection that has not said yet what it wants."""

    def refuse(self, answer: bytes) -> None: ...


class _Head:
    """A head on its way, or the rest of a body: until when it may be, and how much of it there is."""

    __slots__ = ("deadline", "is_body", "size_bytes")

    def __init__(self, deadline: float, *, is_body: bool) -> None:
        self.deadline = deadline
        self.is_body = is_body
        self.size_bytes = 0


class Arrivals:
    """All connections of which something is awaited, the longest waiting first; one timer looks after them."""

    def __init__(
        self,
        refusals: Refusals,
        *,
        head_seconds: float,
        count: Callable[[str], None],
        address_of: Callable[[str | None], str | None],
        per_address: int,
    ) -> None:
        """``per_address`` is how many connections may wait for which ``address_of`` the peer gives the same."""
        self.refusals = refusals
        self.head_seconds = head_seconds
        self.count = count
        self.address_of = address_of
        self._per_address = per_address
        self._awaited: dict[Awaited, _Head] = {}
        self._by_address: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, address: str) -> bool:
        """Count one more that waits; False where its address has too many."""
        if self._by_address[address] >= self._per_address:
            self.count("refused_connections_waiting")
            return False
        self._by_address[address] += 1
        return True

    def leave(self, address: str) -> None:
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def expect(self, connection: Awaited, *, is_body: bool = False) -> None:
        """Await a head; or, with ``is_body``, the rest of a body that nobody reads: its request has been answered."""
        if connection in self._awaited:
            # A first byte wins no time.
            return
        loop = asyncio.get_running_loop()
        self._awaited[connection] = _Head(loop.time() + self.head_seconds, is_body=is_body)
        if self._timer is None:
            self._timer = loop.call_later(SWEEP_SECONDS, self._sweep)

    def arrived(self, connection: Awaited) -> None:
        self._awaited.pop(connection, None)

    def received(self, connection: Awaited, size_bytes: int) -> None:
        """Count what belongs to no complete head, and refuse too much of it."""
        head = self._awaited.get(connection)
        if head is None or head.is_body:
            return
        head.size_bytes += size_bytes
        if head.size_bytes > MAX_HEAD_BYTES:
            del self._awaited[connection]
            self.count("request_heads_too_large")
            connection.refuse(self.refusals.too_large)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._awaited:
            connection, head = next(iter(self._awaited.items()))
            if head.deadline > now:
                break
            del self._awaited[connection]
            self.count("request_bodies_late" if head.is_body else "request_heads_late")
            # Who has said nothing is told nothing, and who was answered has been told.
            connection.refuse(self.refusals.late if head.size_bytes else b"")
        self._timer = loop.call_later(SWEEP_SECONDS, self._sweep) if self._awaited else None
