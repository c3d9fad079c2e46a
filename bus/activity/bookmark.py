"""How far a group of readers has come in an execution's log: survives each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tailrace.bus.errors import (
    BookmarkHeldError,
    BookmarkLostError,
    BookmarkReadError,
    InvalidCursorError,
    ReplyError,
)
from tailrace.bus.model.cursor import START, Cursor, parse
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.retention import Retention
from tailrace.bus.redis.commands import Commands
from tailrace.bus.redis.script import Script


@dataclass(frozen=True, slots=True)
class Opened:
    """``torn`` says that a reader before did not close it: what follows ``cursor`` may have been read."""

    cursor: Cursor
    torn: bool


class Bookmarks:
    """Those of one reader of one group. Taken for ``lease_seconds``, and again by every move."""

    def __init__(
        self, commands: Commands, keys: Keys, retention: Retention, *, group: str, reader: str, lease_seconds: float
    ) -> None:
        self._commands = commands
        self._keys = keys
        self._retention = retention
        self._group = group
        self._reader = reader
        self._lease_ms = int(lease_seconds * 1000)
        self._script = Script.load("bookmark")

    async def open(self, execution_id: str, at: Cursor | None = None) -> Opened:
        """``at`` is an entry that there is: one behind the end that was read shows that the log goes on.

        Raises BookmarkHeldError, BookmarkReadError; BusUnavailableError, after which it may be opened again.
        """
        raw, torn = await self._run("open", execution_id, at)
        try:
            cursor = parse(raw.decode(errors="replace"))
        except InvalidCursorError:
            # A stranger wrote it; to read again is better than to pass over.
            return Opened(START, torn=True)
        return Opened(cursor, torn=bool(torn))

    async def move(self, execution_id: str, cursor: Cursor | None = None) -> None:
        """Go on reading; with a cursor, say how far one has come. Restores a bookmark that Redis has lost.

        Raises BookmarkLostError.
        """
        await self._run("move", execution_id, cursor)

    async def close(self, execution_id: str, cursor: Cursor | None = None) -> None:
        """Leave it for another, everything up to the cursor read and nothing more. Raises BookmarkLostError."""
        await self._run("close", execution_id, cursor)

    async def end(self, execution_id: str, cursor: Cursor | None = None) -> None:
        """Not to be opened again by this group, unless the log goes on. Raises BookmarkLostError."""
        await self._run("end", execution_id, cursor)

    async def _run(self, action: str, execution_id: str, cursor: Cursor | None = None) -> Any:
        kept = self._retention
        ttl_seconds = kept.ended_state_seconds if action == "end" else kept.live_seconds
        key = self._keys.bookmark(execution_id, self._group)
        shown = "" if cursor is None else str(cursor)
        try:
            return await self._script.run(
                self._commands, (key,), action, self._reader, self._lease_ms, ttl_seconds, shown
            )
        except ReplyError as error:
            place = f"group {self._group}, execution {execution_id}"
            match error.code:
                case "HELD":
                    raise BookmarkHeldError(f"{place}: it is being read by another") from None
                case "LOST":
                    raise BookmarkLostError(f"{place}: another reads it now") from None
                case "READ":
                    raise BookmarkReadError(f"{place}: it was read to the end") from None
            raise
