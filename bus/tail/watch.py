"""What a Tail promises to those who watch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.reading import RawEntry

_OLDEST_SECONDS: Final = 3600.0


class Listener(Protocol):
    """Called by the Tail, never concurrently; must not block and must not raise."""

    def deliver(self, entries: Sequence[RawEntry]) -> None:
        """Take what follows the watch's cursor, in order. Empty: the stream changed, but has nothing new here."""

    def disturbed(self, reason: str) -> None:
        """Learn that continuity is not known any more (reconnected, flushed, failed, closed): prove, then ``resume``.

        The watch is suspended: nothing is delivered until then.
        """


class Watch(Protocol):
    """A stream that is being watched from a cursor on."""

    def suspend(self) -> None:
        """Deliver nothing until ``resume``."""

    def resume(self, cursor: Cursor) -> None:
        """Deliver what follows this cursor."""

    def close(self) -> None: ...


class Tail(Protocol):
    mode: str

    async def start(self) -> None: ...

    def watch(self, key: str, cursor: Cursor, listener: Listener) -> Watch:
        """Deliver what follows the cursor, from now on. Raises BusClosedError."""
        ...

    async def aclose(self) -> None: ...


def age_seconds(entry_id: bytes, now: float) -> float:
    """How long ago Redis took an entry, by this host's clock; its id may also be made up by another program."""
    return min(max(0.0, now - int(entry_id.partition(b"-")[0]) / 1000), _OLDEST_SECONDS)
