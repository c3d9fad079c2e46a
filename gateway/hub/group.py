"""Live viewers that one rendering serves."""

from __future__ import annotations

from typing import Protocol

from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.filter import Filter
from tailrace.gateway.hub.viewer import Viewer
from tailrace.gateway.wire.formats import Format, RenderBare


class Timer(Protocol):
    def cancel(self) -> None: ...


class ViewerGroup:
    """Live viewers that want the same bytes at the same times."""

    __slots__ = (
        "bare",
        "coalesce_ms",
        "cursor",
        "key",
        "members",
        "rendering",
        "silent",
        "silent_since",
        "timer",
        "untold",
        "wanted",
    )

    def __init__(self, rendering: Format, wanted: Filter | None, coalesce_ms: int, cursor: Cursor) -> None:
        self.key = (rendering, wanted, coalesce_ms)
        self.rendering = rendering
        self.wanted = wanted
        self.coalesce_ms = coalesce_ms
        self.cursor = cursor
        # Runs until what it has coalesced is written.
        self.timer: Timer | None = None
        # How to render what needs no second look, where everything is wanted, and at once.
        self.bare: RenderBare | None = None
        if wanted is None and not coalesce_ms:
            self.bare = getattr(rendering, "bare", None)
        # How many entries the filter has left out since the members were told a cursor.
        self.untold = 0
        # Nothing was written since ``silent_since``; noted when the clock is looked at, not with every write.
        self.silent = False
        self.silent_since = 0.0
        # A dict as an ordered set: members leave in O(1).
        self.members: dict[Viewer, None] = {}
