"""One who reads live. A viewer owns a cursor and a socket, not a queue."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import Protocol

from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.filter import Filter
from tailrace.gateway.wire.formats import Format, Message


class Sink(Protocol):
    """Where frames go. Trusts its caller not to write while a write is held back."""

    def write(self, message: Message) -> bool:
        """Take one message. False when the socket is full: it is held, and ``Topic.drained`` will be called."""

    def finish(self, message: Message) -> None:
        """Write the last frames and close well."""

    def send_away(self, message: Message) -> None:
        """Like ``finish``, for a viewer that shall come back elsewhere."""

    def cut(self) -> None:
        """Close at once; what the socket held is lost to this connection, not to the viewer's cursor."""


class Stage(Enum):
    REPLAYING = "replaying"  # a page has been asked for
    LIVE = "live"  # its cursor is its group's
    LAGGING = "lagging"  # its socket is full
    WAITING = "waiting"  # it has read further than the tail
    GONE = "gone"


class Viewer:
    __slots__ = (
        "caught_up",
        "coalesce_ms",
        "ending",
        "position",
        "proved",
        "rendering",
        "sink",
        "stage",
        "stuck_since",
        "turn",
        "wanted",
    )

    def __init__(
        self,
        sink: Sink,
        rendering: Format,
        position: Numbering,
        *,
        wanted: Filter | None = None,
        coalesce_ms: int = 0,
        turn: AbstractAsyncContextManager[None] | None = None,
    ) -> None:
        """``turn`` is entered for reading a page of the log, where several viewers share a connection."""
        self.sink = sink
        self.rendering = rendering
        self.position = position
        self.wanted = wanted
        self.coalesce_ms = coalesce_ms
        self.turn = turn
        self.stage = Stage.REPLAYING
        # Whether the position was found in the log since the last disturbance.
        self.proved = False
        self.caught_up = False
        self.ending = False
        self.stuck_since = 0.0
