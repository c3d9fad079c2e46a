"""Many writers, one connection that is full now and then. Pure.

A connection takes messages until it is full; it then holds one back, and says when that has gone through. Until then
each writer may leave one message more; afterwards they go on in turn, those who have waited longest first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tailrace.gateway.wire.formats import Message


class Writer(Protocol):
    """One of those who share a connection."""

    def drained(self) -> None:
        """What this writer wrote last is out, and it is its turn: it may write again, at once."""


class SocketOutbox:
    """Bounded: one message held by the connection, and one for each writer that found it so.

    Trusts writers not to write again before ``drained``, save to add a last message to one that the connection holds.
    """

    __slots__ = ("_waiting", "_write", "abandoned", "held")

    def __init__(self, write: Callable[[Message], bool]) -> None:
        """``write`` gives one message to the connection; False when that holds it back."""
        self._write = write
        self.held = False
        self.abandoned = False
        # Whose turn comes next, and what it still has to say.
        self._waiting: dict[Writer, Message | None] = {}

    def put(self, writer: Writer, message: Message) -> bool:
        """Take a message; False when ``writer.drained`` will be called."""
        if self.abandoned:
            return False
        if self.held:
            self._waiting[writer] = message
            return False
        if self._write(message):
            return True
        self.held = True
        self._waiting[writer] = None
        return False

    def wait(self, writer: Writer) -> None:
        """Ask for a turn without having anything to say yet; it may come at once."""
        if self.held and not self.abandoned:
            self._waiting.setdefault(writer, None)
        else:
            writer.drained()

    def forget(self, writer: Writer) -> None:
        """Throw away what a writer has left here; what the connection itself holds cannot be taken back."""
        self._waiting.pop(writer, None)

    def released(self) -> None:
        """The held message has gone through."""
        self.held = False
        while self._waiting and not self.held:
            writer = next(iter(self._waiting))
            message = self._waiting.pop(writer)
            if message is None or self._write(message):
                writer.drained()
            else:
                self.held = True
                # At the end of the queue: none keeps the connection to itself.
                self._waiting[writer] = None

    def abandon(self) -> None:
        """The connection is gone: wake all who wait for it."""
        self.abandoned = True
        waiting, self._waiting = self._waiting, {}
        for writer in waiting:
            writer.drained()

    def __len__(self) -> int:
        return len(self._waiting)
