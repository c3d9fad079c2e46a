"""Raw stream entries to checked items. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bus.codec import decode
from bus.continuity import Numbering
from bus.entry import Entry, Gap
from bus.event import TERMINAL_TYPES

RawEntry = Sequence[Any]  # [id, [field, value, ...]] as Redis sends it


@dataclass(frozen=True, slots=True)
class Page:
    """A stretch of the log: entries in order, gaps where something is missing.

    ``position`` is where reading goes on; ``more`` says that Redis may have more than was asked for; ``ended`` that
    the reader is at the end of an execution that has ended: its proven terminal entry, or a log that is gone.
    """

    items: list[Entry | Gap]
    position: Numbering
    more: bool = False
    ended: bool = False


def read_plain(numbering: Numbering, raw: Sequence[RawEntry], limit_bytes: int) -> list[Entry] | None:
    """Decode a batch that continues ``numbering`` without question, or None when it must be proved.

    A jump in the numbering, or an entry that claims to end the execution, wants a second look. ``numbering`` has
    moved on only when entries are returned.
    """
    cursor, number, origin = numbering.cursor, numbering.number, numbering.origin
    entries = []
    for entry_id, fields in raw:
        entry = decode(entry_id, fields, limit_bytes=limit_bytes)
        if entry.type in TERMINAL_TYPES or not numbering.follows(entry.cursor):
            numbering.cursor, numbering.number, numbering.origin = cursor, number, origin
            return None
        entries.append(entry)
    return entries


def read_proved(numbering: Numbering, raw: Sequence[RawEntry], limit_bytes: int) -> tuple[list[Entry | Gap], Numbering]:
    """Decode entries that follow a proved position; a jump in the numbering becomes a gap in its place."""
    at = numbering.copy()
    items: list[Entry | Gap] = []
    for entry_id, fields in raw:
        entry = decode(entry_id, fields, limit_bytes=limit_bytes)
        previous = at.cursor
        if at.hole_before(entry.cursor):
            items.append(Gap(previous, entry.cursor, entry.cursor, "hole"))
        items.append(entry)
    return items, at
