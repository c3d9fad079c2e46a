"""Events at which a group's handler failed for good, kept with the reason: a stream per group. And those to try again.

What is to be tried again is one reader's at a time, who holds it until it is done with it, as a job's worker does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tailrace.bus.errors import DeadLetterUnknownError, InvalidCursorError, ReplyError
from tailrace.bus.model.codec import ts_of
from tailrace.bus.model.cursor import Cursor, from_id, parse
from tailrace.bus.model.event import check_name
from tailrace.bus.model.fields import number, text
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.reading import RawEntry
from tailrace.bus.redis.commands import Commands
from tailrace.bus.redis.consumer_group import ConsumerGroup

MAX_LETTERS: Final = 100_000
MAX_MESSAGE_CHARS: Final = 4000
PAGE_LETTERS: Final = 100
KEPT_SECONDS: Final = 7 * 24 * 3600
_READERS: Final = "readers"
_ATTEMPTS_DIGITS: Final = 9


@dataclass(frozen=True, slots=True)
class UndeliveredEvent:
    """``handler`` has failed ``attempts`` times at the event of this ``cursor``; ``ts`` is when it was given up."""

    group: str
    entry_id: str
    execution_id: str
    cursor: Cursor
    type: str
    handler: str
    message: str
    attempts: int
    ts: str


class Undelivered:
    """Made by ``bus.undelivered(group)``. Every method raises BusUnavailableError."""

    def __init__(self, commands: Commands, keys: Keys, group: str) -> None:
        self.group = check_name(group, field="group")
        self._commands = commands
        self._key = keys.undelivered(group)
        self._again_key = keys.redeliveries(group)
        self._again = ConsumerGroup(commands, self._again_key, _READERS)

    async def list(self, *, before: str | None = None, count: int = PAGE_LETTERS) -> Sequence[UndeliveredEvent]:
        """The newest first; ``before`` is the entry id of the last that was seen. Raises InvalidCursorError."""
        end = "+" if before is None else f"({parse(before, field='before')}"
        raw = await self._commands.command("XREVRANGE", self._key, end, "-", "COUNT", count)
        return [letter for entry in raw if (letter := self._letter(entry)) is not None]

    async def requeue(self, entry_id: str) -> None:
        """Have a reader of the group give the event to that handler once more. Raises DeadLetterUnknownError."""
        at = str(parse(entry_id, field="entry_id"))
        found = await self._commands.command("XRANGE", self._key, at, at)
        if not found:
            raise DeadLetterUnknownError(self.group, entry_id)
        await self._write(self._again_key, found[0][1])
        await self._commands.command("XDEL", self._key, at)

    async def drop(self, entry_id: str) -> None:
        """Raises DeadLetterUnknownError, InvalidCursorError."""
        if not await self._commands.command("XDEL", self._key, str(parse(entry_id, field="entry_id"))):
            raise DeadLetterUnknownError(self.group, entry_id)

    async def add(  # noqa: PLR0917 - the fields of a letter
        self, execution_id: str, cursor: Cursor, event_type: str, handler: str, message: str, attempts: int
    ) -> None:
        """Keep one; ``message`` is what the handler raised."""
        short = message[:MAX_MESSAGE_CHARS].encode("utf-8", "replace")
        fields: list[bytes | str | int] = [
            *("id", execution_id, "at", str(cursor), "type", event_type, "handler", handler),
            *("message", short, "attempts", attempts),
        ]
        await self._write(self._key, fields)

    async def take(self, reader: str, *, idle_seconds: float, count: int) -> Sequence[UndeliveredEvent]:
        """What is to be tried again, and what readers that are gone held of it."""
        try:
            _, held = await self._again.claim(reader, idle_seconds=idle_seconds, start=b"0-0", count=count)
            fresh = await self._commands.command(
                "XREADGROUP", "GROUP", _READERS, reader, "COUNT", count, "STREAMS", self._again_key, ">"
            )
        except ReplyError as error:
            if error.code != "NOGROUP":
                raise
            if await self._commands.command("EXISTS", self._again_key):
                await self._again.open()
            return []
        taken: list[RawEntry] = [*held, *(entry for entries in (fresh or {}).values() for entry in entries)]
        letters = []
        for entry in taken:
            letter = self._letter(entry)
            if letter is not None:
                letters.append(letter)
            else:
                await self.done(entry[0].decode())
        return letters

    async def keep(self, reader: str, entry_ids: Sequence[str]) -> None:
        """Say that a live reader holds these."""
        await self._again.keep(reader, entry_ids)

    async def done(self, entry_id: str) -> None:
        """It was handled, or is a letter once more."""
        await self._again.acknowledge([entry_id])
        await self._commands.command("XDEL", self._again_key, entry_id)

    async def _write(self, key: str, fields: Sequence[bytes | str | int]) -> None:
        await self._commands.command("XADD", key, "MAXLEN", "~", MAX_LETTERS, "*", *fields)
        await self._commands.command("EXPIRE", key, KEPT_SECONDS)

    def _letter(self, raw: RawEntry) -> UndeliveredEvent | None:
        """Read an entry, which any program may have written; None for one that names no event."""
        raw_id, raw_fields = raw
        values = raw_fields or ()
        fields = dict(zip(values[::2], values[1::2], strict=False))
        execution_id, handler = text(fields.get(b"id")), text(fields.get(b"handler"))
        try:
            cursor = parse(text(fields.get(b"at")) or "")
        except InvalidCursorError:
            return None
        if not execution_id or not handler:
            return None
        return UndeliveredEvent(
            self.group,
            raw_id.decode(),
            execution_id,
            cursor,
            text(fields.get(b"type")) or "",
            handler,
            text(fields.get(b"message")) or "",
            number(fields.get(b"attempts"), max_digits=_ATTEMPTS_DIGITS) or 0,
            ts_of(from_id(raw_id).ms),
        )
