"""What a topic asks of the world, and what it gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.filter import Filter
from tailrace.gateway.hub.viewer import Viewer
from tailrace.gateway.wire.formats import Format

if TYPE_CHECKING:
    from tailrace.gateway.hub.topic import Topic


class Ports(Protocol):
    """What a topic asks of the world; and where it counts events written to viewers, each viewer for itself."""

    deliveries: int

    def read_page(self, topic: Topic, viewer: Viewer) -> None:
        """Read the log after the viewer's position; answer with ``Topic.page``, never at once."""

    def later(self, delay_ms: int, call: Callable[[], None]) -> None: ...

    def now(self) -> float: ...

    def count(self, name: str, amount: int = 1) -> None: ...


class PageFrames(Protocol):
    """A page of the log, rendered once for all who read it."""

    position: Numbering
    more: bool
    ended: bool
    entries: int

    def frames(self, rendering: Format, wanted: Filter | None) -> tuple[bytes, int]:
        """Give its frames, and how many of its entries are among them."""
