"""One who reads live. A viewer owns a cursor and a socket, not a queue."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import Protocol

from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.filter import Filter
from tailrace.bus.model.lifecycle import Status
from tailrace.gateway.wire.formats import Format, Message


class Sink(Protocol):
    """Where frames go. Trusts its caller not to write while a write is held back."""

    def write(self, message: Message) -> bool:
        """Take one message. False when the socket is full: it is held, and ``Topic.drained`` will be called."""

    def finish(self, message: Message) -> bool:
        """Write the last frames and close well. False when they are held: it closes when they are out, or is cut."""

    def unsent_bytes(self) -> int | None:
        """How much of what was written the other side has not taken yet; None where that cannot be seen."""

    def send_away(self, message: Message) -> None:
        """Like ``finish``, for a viewer that has left its topic: nobody would cut it later, so a full socket is cut."""

    def cut(self) -> None:
        """Close at once; what the socket held is lost to this connection, not to the viewer's cursor."""


class Stage(Enum):
    REPLAYING = "replaying"  # a page has been asked for
    LIVE = "live"  # its cursor is its group's
    LAGGING = "lagging"  # its socket is full
    WAITING = "waiting"  # it has read further than the tail
    ENDING = "ending"  # its socket is full, and its last frame is in there
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
        "told_ending",
        "turn",
        "unsent_bytes",
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
        # Whether the page that ended has shown the last event.
        self.told_ending = True
        self.stuck_since = 0.0
        self.unsent_bytes: int | None = None

    @property
    def key(self) -> tuple[Format, Filter | None, int]:
        """What viewers have in common that are written the same bytes at the same times."""
        return (self.rendering, self.wanted, self.coalesce_ms)

    @property
    def held(self) -> bool:
        """Whether its socket is full."""
        return self.stage is Stage.LAGGING or self.stage is Stage.ENDING

    def hold(self, stage: Stage, now: float) -> None:
        """Its socket has become full."""
        self.stage = stage
        self.stuck_since = now
        self.unsent_bytes = None

    def moves(self, now: float) -> bool:
        """Whether its full socket has taken bytes since the last look: a slow reader of a large frame is not stuck."""
        before, self.unsent_bytes = self.unsent_bytes, self.sink.unsent_bytes()
        moved = before is not None and self.unsent_bytes is not None and self.unsent_bytes < before
        if moved:
            self.stuck_since = now
        return moved


class PageFrames(Protocol):
    """A page of the log, rendered once for all who read it."""

    position: Numbering
    more: bool
    ended: bool
    status: Status
    entries: int

    def frames(self, rendering: Format, wanted: Filter | None) -> tuple[bytes, int]:
        """Give its frames, and how many of its entries are among them."""
