"""The proof that nothing is missing, against a model: every loss is told, and no gap where nothing was lost.

What ids cannot prove is written down here as exceptions, each with its reason: a promise that is not kept everywhere
must at least say where.
"""

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tailrace.bus.log.log import Log
from tailrace.bus.model.continuity import Numbering, resume_point
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.cursor import START
from tailrace.bus.model.entry import Entry, Gap
from tailrace.bus.model.event import MAX_EVENT_BYTES
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.reading import read_plain
from tailrace.bus.model.retention import Retention
from tests.unit.bus.model_log import ModelLog, Written


class Reader:
    """Reads with proof, or (``plainly``) as a subscription does whose tail was told of nothing."""

    def __init__(self, model: ModelLog, *, plainly: bool) -> None:
        self.model = model
        self.plainly = plainly
        self.position = Numbering.after(START)
        self.items: list[Written | Gap] = []
        # Serials from which on it resumed at a stranger's entry: what followed there had no number to prove it.
        self.blind_from: list[int] = []
        self._log = Log(model, Keys(), counters=Counters(), retention=Retention())

    @property
    def seen(self) -> Written | None:
        return next((item for item in reversed(self.items) if isinstance(item, Written)), None)

    @property
    def seen_of_ours(self) -> Written | None:
        return next((item for item in reversed(self.items) if isinstance(item, Written) and item.ours), None)

    async def read(self, count: int) -> list[Written | Gap]:
        items: list[Entry | Gap] = []
        if self.plainly:
            raw = self.model.after(self.position.cursor)
            plain = read_plain(self.position, raw, MAX_EVENT_BYTES) if raw else None
            if plain is not None:
                return self._take(plain)
            if not raw:
                return []
        while True:
            page = await self._log.read("x", self.position, count)
            self.position = page.position
            items += page.items
            if not page.more:
                return self._take(items)

    def resume(self) -> None:
        """Come back with nothing but the cursor, as a viewer does."""
        self.position = Numbering.after(self.position.cursor)
        if self.seen is not None and not self.seen.ours:
            self.blind_from.append(self.seen.serial)

    def _take(self, items: list[Entry] | list[Entry | Gap]) -> list[Written | Gap]:
        taken = [item if isinstance(item, Gap) else self.model.history[item.data] for item in items]
        self.items += taken
        return taken


class LogMachine(RuleBasedStateMachine):
    """Writes by us and by strangers, losses of every kind, readers of both kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.model = ModelLog()
        self.readers = [Reader(self.model, plainly=plainly) for plainly in (False, False, True, True)]
        self.deleted: set[int] = set()
        # What was not in the log any more, and is again.
        self.returned: set[int] = set()

    def teardown(self) -> None:
        self.runner.close()
        for reader in self.readers:
            self.check(reader)

    @rule(count=st.integers(1, 5))
    def we_append(self, count: int) -> None:
        self.model.append(count)

    @rule()
    def a_stranger_writes(self) -> None:
        self.model.plain_xadd()

    @rule(steps=st.integers(-3, 3))
    def the_clock_moves(self, steps: int) -> None:
        self.model.clock_ms += steps * 1000

    @rule(count=st.integers(1, 4))
    def the_log_is_trimmed(self, count: int) -> None:
        self.model.trim(count)

    @precondition(lambda self: self.model.entries)
    @rule(data=st.data())
    def an_entry_is_deleted(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.model.entries) - 1))
        self.deleted.add(self.model.entries[index].serial)
        self.model.delete(index)

    @rule(steps=st.integers(-3, 3))
    def redis_is_flushed(self, steps: int) -> None:
        self.model.flush()
        self.another_clock(steps)

    @rule(steps=st.integers(-3, 3))
    def the_log_alone_vanishes(self, steps: int) -> None:
        self.model.delete_log()
        self.another_clock(steps)

    @rule()
    def the_replica_catches_up(self) -> None:
        self.model.replicate()

    @rule(steps=st.integers(-3, 3))
    def redis_fails_over(self, steps: int) -> None:
        before = {written.serial for written in self.model.entries}
        self.model.fail_over()
        self.returned |= {written.serial for written in self.model.entries} - before
        self.another_clock(steps)

    def another_clock(self, steps: int) -> None:
        """Ahead or behind, but never the same millisecond again.

        Exception: an id that is given out twice, by two servers in one millisecond, cannot be told from itself.
        """
        self.model.clock_ms += steps * 1000 + 7

    @rule(which=st.integers(0, 3), count=st.integers(1, 4))
    def somebody_reads(self, which: int, count: int) -> None:
        reader = self.readers[which]
        before = None if reader.position.cursor == START else reader.seen_of_ours
        excused = self.may_not_know(reader)
        taken = self.runner.run(reader.read(count))
        if not excused and any(isinstance(item, Gap) for item in taken):
            lost = self.lost_after(before)
            assert lost, f"a gap was told though nothing was lost: {taken}"

    @rule(which=st.integers(0, 3))
    def somebody_resumes(self, which: int) -> None:
        self.readers[which].resume()

    def may_not_know(self, reader: Reader) -> bool:
        """Where a gap is told though nothing need be lost: the proof, the cursor's own entry, is gone.

        A cursor of ours that was trimmed is no excuse: its successor proves the same.
        """
        if reader.position.cursor == START:
            return False
        present = {written.cursor for written in self.model.entries}
        if reader.position.cursor in present:
            return False
        seen = reader.seen
        if seen is None or not seen.ours or seen.serial in self.deleted or seen.cursor != reader.position.cursor:
            return True
        # Flushed or rewound, not trimmed, when the log's last id is not beyond it or nothing was trimmed.
        first = self.model.entries[0] if self.model.entries else None
        return first is None or first.cursor.n != seen.cursor.n + 1 or first.serial != seen.serial + 1 or self.rewound()

    def rewound(self) -> bool:
        return self.model.stored.entries_added == len(self.model.entries)

    def lost_after(self, seen: Written | None) -> list[Written]:
        """What was written after an entry and is not in the log any more."""
        present = {written.serial for written in self.model.entries}
        start = 0 if seen is None else seen.serial + 1
        return [written for written in self.model.history[start:] if written.serial not in present]

    def check(self, reader: Reader) -> None:
        """In order, nothing twice, and a gap wherever an entry of ours is missing between two that came."""
        # Exception: a replica that was not told of it brings back what was deleted; to who was told a gap, it is new.
        delivered = [item for item in reader.items if isinstance(item, Written) and item.serial not in self.returned]
        assert [item.serial for item in delivered] == sorted({item.serial for item in delivered})
        previous: Written | None = None
        before = START
        told, counted = False, True
        for item in reader.items:
            if isinstance(item, Gap):
                told, counted = True, False
                before = resume_point(item)
                continue
            if item.ours:
                # Exception: after a gap, what shares a millisecond with the entry before it may be a stranger's.
                missing = self.missing_between(reader, previous, item) if counted and not told else []
                assert not missing, f"lost without a gap before {item}: {missing}; got {reader.items}"
                counted = counted or (item.cursor.ms, item.cursor.n) != (before.ms, before.n + 1)
                previous, told = item, False
            before = item.cursor

    def missing_between(self, reader: Reader, previous: Written | None, current: Written) -> list[Written]:
        start = 0 if previous is None else previous.serial + 1
        if any(start <= serial < current.serial for serial in reader.blind_from):
            # Exception: a viewer that resumes at a stranger's entry has no number to go by.
            return []
        if previous is not None and current.cursor.n == previous.cursor.n + 1:
            # Exception: a log that began anew, and was read when it had been trimmed to the very next number.
            return []
        between = self.model.history[start : current.serial]
        collided = {written.cursor.n for written in self.model.history if not written.ours and written.cursor.n}
        if any(not written.ours and written.cursor.n for written in between):
            # Exception: a stranger's entry that fell into a millisecond in use has a number, and looks like ours.
            return []
        return [written for written in between if written.ours and written.cursor.n not in collided]


TestLogMachine = LogMachine.TestCase
TestLogMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


def test_a_hole_behind_a_cursor_that_was_trimmed_is_told() -> None:
    """All in one millisecond, so that the cursor's own number would have to be looked up; and it is gone."""
    model = ModelLog()
    reader = Reader(model, plainly=False)
    with asyncio.Runner() as runner:
        model.append(1)
        runner.run(reader.read(4))
        model.trim(1)
        reader.resume()
        model.append(3)
        model.delete(1)
        runner.run(reader.read(4))
    assert [item.serial if isinstance(item, Written) else item.reason for item in reader.items] == [0, 1, "hole", 3]
