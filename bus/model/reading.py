"""Raw stream entries to checked items. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tailrace.bus.model.codec import decode, is_line, is_no_ending, is_second, is_step, is_time, is_type_of_work
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import START, Cursor
from tailrace.bus.model.entry import Entry, Gap
from tailrace.bus.model.event import TERMINAL_TYPES
from tailrace.bus.model.lifecycle import Status

RawEntry = Sequence[Any]  # [id, [field, value, ...]] as Redis sends it
# Id, type, step, time and data of an entry, in the bytes in which they stand, and checked.
Bare = tuple[bytes, bytes, bytes | None, bytes, bytes]
_WITHOUT_STEP: Final = 6
_WITH_STEP: Final = 8
# As our publishers write a time: 2026-01-02T03:04:05.678901Z.
_TS_CHARS: Final = 27
_Z: Final = 90


@dataclass(frozen=True, slots=True)
class Page:
    """A stretch of the log: entries in order, gaps where something is missing.

    ``position`` is where reading goes on; ``more`` says that Redis may have more than was asked for; ``ended`` that
    the reader is at the end of an execution that has ended: its proven terminal entry, or a log that is gone. Then
    ``position`` is that entry's, and ``status`` how it ended.
    """

    items: list[Entry | Gap]
    position: Numbering
    more: bool = False
    ended: bool = False
    status: Status = "unknown"


@dataclass(frozen=True, slots=True)
class BarePage:
    """A stretch of the log in which every entry is as our publishers write it, follows, and ends nothing."""

    bare: list[Bare]
    position: Numbering
    more: bool


def bare_page(
    position: Numbering, raw: Sequence[RawEntry], count: int, limit_bytes: int, most_bytes: int
) -> BarePage | None:
    """The beginning of what an XRANGE from a position on, of ``count`` entries more than itself, gave.

    None when that proves or shows nothing by itself: ``Log.read`` then finds out.
    """
    following = raw
    if position.cursor != START:
        if not raw or raw[0][0] != position.cursor.encode() or not _is_no_ending(raw[0]):
            return None
        following = raw[1:]
    at = position.copy()
    bare = read_bare(at, following, limit_bytes, most_bytes, fits=is_no_ending)
    if not bare:
        return None
    return BarePage(bare, at, len(bare) < len(following) or len(following) >= count)


def _is_no_ending(raw: RawEntry) -> bool:
    """Whether what follows this entry may be more of the log: behind an ending, only other programs write."""
    fields = raw[1]
    return bool(fields) and fields[0] == b"t" and is_no_ending(fields[1])


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


def read_bare(
    numbering: Numbering,
    raw: Sequence[RawEntry],
    limit_bytes: int,
    most_bytes: int,
    *,
    fits: Callable[[bytes], bool] = is_type_of_work,
) -> list[Bare]:
    """What a batch begins with, as far as it continues ``numbering``, is as our publishers write it, and ``fits``.

    About ``most_bytes`` of data at most, and one entry at least; ``numbering`` has moved on to the last of them. Nearly
    every entry is such a one, and nothing of it has to become an object that would be bytes again at once. Where this
    stops, ``read_plain`` and ``read_proved`` say what is to be made of the next.
    """
    number = numbering.number
    if number is None:
        return []
    found: list[Bare] = []
    size = 0
    for entry_id, fields in raw:
        if fields is None:
            break
        if len(fields) == _WITHOUT_STEP:
            t, kind, at, ts, d, data = fields
            step = None
        elif len(fields) == _WITH_STEP:
            t, kind, s, step, at, ts, d, data = fields
            if s != b"s" or not is_step(step):
                break
        else:
            break
        if t != b"t" or at != b"ts" or d != b"d" or not entry_id.endswith(b"-%d" % (number + 1)):
            break
        # As a rule a second has been seen before, and only its fraction is new.
        if not ((is_second(ts[:20]) and len(ts) == _TS_CHARS and ts[20:26].isdigit() and ts[26] == _Z) or is_time(ts)):
            break
        if not fits(kind) or len(data) > limit_bytes or not is_line(data) or (size >= most_bytes and found):
            break
        number += 1
        size += len(data)
        found.append((entry_id, kind, step, ts, data))
    if found:
        cursor = tuple.__new__(Cursor, (int(found[-1][0].partition(b"-")[0]), number))
        if numbering.origin is not None and cursor.ms != numbering.cursor.ms:
            # As in Numbering: one of them began a millisecond, so it did not fall in.
            numbering.origin = None
        numbering.cursor, numbering.number = cursor, number
    return found


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
