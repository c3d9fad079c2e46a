"""The proof that nothing lies between two entries. Pure.

An entry's id is ``<ms>-<n>`` and n counts 1, 2, 3, …, so any reader can tell from two ids whether something
is missing between them. Entries that strangers wrote with ``XADD *`` have an n of 0, or, when they fell into the
same millisecond as ours, one that our numbering will use again.

What ids cannot prove stays untold: strangers' entries lost beside a trimmed cursor, or under an n of 1 at the start;
an entry of ours deleted whose number a stranger had used up within one millisecond; after a gap, one deleted behind
ours that share a millisecond with the stranger's entry before them; a log that began anew and was trimmed to exactly
the number its reader waits for. On the other side, a gap is told to a reader that resumes at an entry that
was deleted, or at a stranger's that was trimmed, though nothing after it may be lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tailrace.bus.model.cursor import START, Cursor
from tailrace.bus.model.entry import Gap, GapReason


@dataclass(slots=True)
class Numbering:
    """Where a reader stands: the last id it saw, and the number the next entry of ours must follow.

    ``number`` is None while unknown: after a stranger's entry, and after a gap, whose loss has been told.
    ``origin`` is the entry from which the number was taken, while it may be a stranger's: see ``number_at``.
    """

    cursor: Cursor
    number: int | None
    origin: Cursor | None = field(default=None, compare=False)

    @classmethod
    def after(cls, cursor: Cursor) -> Numbering:
        """Stand after a cursor that was proved to be in the log, or at the start."""
        if cursor.n:
            return cls(cursor, cursor.n, cursor)
        return cls(cursor, 0 if cursor == START else None)

    def copy(self) -> Numbering:
        return Numbering(self.cursor, self.number, self.origin)

    def follows(self, cursor: Cursor) -> bool:
        """Step on to the next entry when it follows without question; False, without a step, when it must be proved.

        Numbers that begin anew look like a stranger's, and are a log that was deleted and written again.
        """
        if self.number is not None and cursor.n == self.number + 1:
            if self.origin is not None:
                self._step(cursor)
            else:
                self.cursor, self.number = cursor, cursor.n
            return True
        if cursor.n == 0 or self._fell_in(cursor):
            self._step(cursor)
            return True
        return False

    def hole_before(self, cursor: Cursor) -> bool:
        """Step on to the next entry of a log that was proved to go on here; True when the numbering jumped."""
        jumped = self.number is not None and cursor.n > self.number + 1 and not self._fell_in(cursor)
        self._step(cursor)
        return jumped

    def _fell_in(self, cursor: Cursor) -> bool:
        """Whether Redis itself numbered it on from the entry before, within one millisecond: a stranger's, perhaps."""
        return cursor.ms == self.cursor.ms and cursor.n == self.cursor.n + 1

    def _step(self, cursor: Cursor) -> None:
        # A number that was used before, in a new millisecond, is ours: strangers had taken it.
        counts = self.number is not None and cursor.n == self.number + 1
        fell_in = self._fell_in(cursor)
        if cursor.n and (counts or not fell_in):
            self.number = cursor.n
        if cursor.n and not fell_in:
            # No stranger's entry begins anywhere but at 0.
            self.origin = None
        self.cursor = cursor


@dataclass(frozen=True, slots=True)
class Extent:
    """What a log holds: its first and last id (None when empty), and how many were ever added and are left."""

    earliest: Cursor | None
    latest: Cursor | None
    length: int
    entries_added: int

    def changed_since(self, requested: Cursor, first: Cursor | None) -> bool:
        """Whether the log cannot be the one in which ``first`` was the first entry at or after ``requested``."""
        if first is None:
            return self.latest is not None and self.latest >= requested
        return self.earliest is None or self.earliest > first


def number_at(cursor: Cursor, of_its_ms: Sequence[Cursor]) -> int | None:
    """What number the next entry of ours follows behind an entry in the log, by all the entries of its millisecond.

    Where a stranger's ``<ms>-0`` began the millisecond, Redis numbered what fell in on from there: those numbers are
    no numbers of ours, and a reader who has only the cursor cannot tell.
    """
    number, previous = None, None
    for each in of_its_ms:
        if each > cursor:
            break
        fell_in = previous is not None and each.n == previous + 1
        if each.n and (not fell_in or previous == number):
            number = each.n
        previous = each.n
    return number


def is_proved(requested: Cursor, first: Cursor | None) -> bool | None:
    """Judge the first entry at or after a cursor: True for no gap, None when the extent must tell.

    ``first`` is what ``XRANGE log <requested> + COUNT …`` gave first.
    """
    if first is None:
        return None
    if requested == START:
        return True if first.n == 1 else None
    return True if first == requested else None


def gap_at(requested: Cursor, first: Cursor | None, extent: Extent, *, known_entries: int) -> Gap | None:
    """Decide a resume that the ids alone did not prove.

    ``known_entries`` is how many entries the execution's state says were appended (0 when there is no state).
    Rules: from the start, a log of strangers only is whole when as many are left as were added; a trimmed cursor
    is no loss when the log now begins with its successor and has indeed been trimmed; everything else is a gap.
    """
    if extent.earliest is None or extent.latest is None:
        lost = known_entries > 0 or requested != START or extent.entries_added > 0
        reason: GapReason = "expired" if known_entries else "flushed"
        return Gap(requested, None, None, reason) if lost else None
    if requested == START:
        trimmed = extent.entries_added > extent.length
        strangers_first = extent.earliest.n == 0 or not known_entries
        if extent.earliest.n == 1 or (strangers_first and not trimmed):
            return None
        return Gap(requested, extent.earliest, extent.latest, "trimmed" if trimmed else "flushed")
    if first is None:
        return Gap(requested, extent.earliest, extent.latest, "rewound")
    begins_here = extent.earliest == first
    trimmed = extent.entries_added > extent.length
    if begins_here and trimmed and requested.n and first.n == requested.n + 1:
        return None
    if not begins_here:
        # Older entries are still there, so the cursor was not trimmed: it was never in this log, or deleted.
        reason = "hole" if first.n > requested.n + 1 else "rewound"
    else:
        reason = "trimmed" if first.n > requested.n + 1 or first.n == 0 else "flushed"
    return Gap(requested, extent.earliest, extent.latest, reason)


def resume_point(gap: Gap) -> Cursor:
    """Where reading goes on after a gap: what the log still has after the cursor, and never what was seen before.

    A cursor beyond the last entry goes on from that last entry; an empty log is read from its start.
    """
    if gap.latest is None:
        return START
    return min(gap.requested, gap.latest)
