"""Any interleaving of appends, joins, replays, lags, coalescing, trims and leaves yields exactly the suffix.

The machine drives a real Topic against a model log and fake sinks. What it may choose: when entries are appended and
in which bites the tail delivers them, when pages that were asked for are answered, which sockets are full, what is
trimmed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tailrace.bus.model.continuity import Extent, Numbering, gap_at, is_proved, resume_point
from tailrace.bus.model.cursor import START, Cursor
from tailrace.bus.model.entry import Entry, Gap
from tailrace.bus.model.filter import Filter
from tailrace.bus.model.reading import Bare, Page, RawEntry
from tailrace.gateway.hub.pages import RenderedPage
from tailrace.gateway.hub.topic import FEW, Topic
from tailrace.gateway.hub.viewer import PageFrames, Stage, Viewer
from tailrace.gateway.wire.formats import Format, Message

PAGE = 4


class PlainFormat(Format):
    name = "plain"
    heartbeat = b"H;"

    def entry(self, _: str, entry: Entry) -> bytes:
        return b"E%d;" % entry.cursor.n

    def bare(self, _: str, entries: Sequence[Bare]) -> bytes:
        return b"".join(b"E%b;" % entry_id.split(b"-")[1] for entry_id, *_ in entries)

    def skipped(self, _: str, cursor: Cursor) -> bytes:
        return b"S%d;" % cursor.n

    def control(self, name: str, _: dict[str, Any]) -> bytes:
        return b"G;" if name == "stream.gap" else b"(%s);" % name.encode()

    def message(self, frames: bytes) -> Message:
        return {"body": frames}


PLAIN: Format = PlainFormat()


class FakeSink:
    def __init__(self) -> None:
        self.got = b""
        self.full = False
        self.held = False
        self.finished = False

    def write(self, message: Message) -> bool:
        assert not self.held, "written to while a write is held back"
        assert not self.finished
        self.got += message["body"]
        self.held = self.full
        return not self.held

    def finish(self, message: Message) -> bool:
        out = self.write(message)
        self.finished = True
        return out

    def unsent_bytes(self) -> int:
        return 0

    def send_away(self, message: Message) -> None:
        self.finish(message)

    def cut(self) -> None:
        self.finished = True


def entry(n: int, *, terminal: bool = False) -> Entry:
    kind = "execution.completed" if terminal else ("odd.one" if n % 2 else "even.one")
    return Entry(Cursor(1000 + n, n), kind, None, "t", b"{}")


def raw(item: Entry) -> RawEntry:
    """As Redis sends it."""
    fields = [b"t", item.type.encode(), b"ts", b"2026-01-02T03:04:05.678901Z", b"d", item.raw_data]
    return [item.cursor.encode(), fields]


@dataclass
class ModelLog:
    entries: list[Entry] = field(default_factory=list)
    trimmed: int = 0
    closed: bool = False

    @property
    def kept(self) -> list[Entry]:
        return self.entries[self.trimmed :]

    def read(self, position: Numbering, count: int) -> Page:
        """Log.read without Redis: the same decisions, on a list."""
        after = position.cursor
        raw = [e for e in self.kept if e.cursor >= after]
        first = raw[0].cursor if raw else None
        gap: Gap | None = None
        if is_proved(after, first) is None:
            kept = self.kept
            extent = Extent(
                kept[0].cursor if kept else None, kept[-1].cursor if kept else None, len(kept), len(self.entries)
            )
            told = after == START and position.number is None
            gap = None if told else gap_at(after, first, extent, known_entries=len(self.entries))
        elif first == after:
            raw = raw[1:]
        more = len(raw) > count
        raw = raw[:count]
        if gap is not None:
            position = Numbering(resume_point(gap), None)
        items: list[Entry | Gap] = [*([gap] if gap else []), *raw]
        at = Numbering(raw[-1].cursor, raw[-1].cursor.n) if raw else position
        ended = bool(self.closed and not more and (not raw or raw[-1].is_terminal))
        return Page(items, at, more, ended)


@dataclass(eq=False)
class Pending:
    """A timer that runs when the test says so."""

    timers: list[Pending]
    call: Callable[[], None]

    def cancel(self) -> None:
        self.timers.remove(self)


@dataclass
class Watched:
    viewer: Viewer
    sink: FakeSink
    start: Cursor


class TopicMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.log = ModelLog()
        self.asked: list[Viewer] = []
        self.kept: dict[Cursor, RenderedPage] = {}
        self.timers: list[Pending] = []
        self.clock = 0.0
        self.deliveries = 0
        self.sinks: list[FakeSink] = []
        self.watched: list[Watched] = []
        self.alone = False
        self.topic = Topic("x", START, self, max_entries=6, max_bytes=10**9)
        self.tail = Numbering.after(START)

    # Ports

    def read_page(self, topic: Topic, viewer: Viewer) -> None:
        assert topic is self.topic
        assert viewer not in self.asked
        self.asked.append(viewer)

    def later(self, _: int, call: Callable[[], None]) -> Pending:
        timer = Pending(self.timers, call)
        self.timers.append(timer)
        return timer

    def now(self) -> float:
        return self.clock

    def count(self, name: str, amount: int = 1) -> None:
        pass

    # What may happen

    @precondition(lambda self: not self.log.closed)
    @rule(count=st.sampled_from([1, 2, 3, 5, 9, FEW + 2]))
    def append(self, count: int) -> None:
        for _ in range(count):
            self.log.entries.append(entry(len(self.log.entries) + 1))

    @precondition(lambda self: not self.log.closed)
    @rule()
    def close(self) -> None:
        self.log.entries.append(entry(len(self.log.entries) + 1, terminal=True))
        self.log.closed = True

    @precondition(lambda self: not self.topic.ended)
    @rule(count=st.sampled_from([1, 2, 5, 12, FEW + 2]), carefully=st.booleans())
    def deliver(self, count: int, carefully: bool) -> None:
        """``carefully`` as a subscription does that reads on with proof, after a reconnect say."""
        before = self.tail.copy()
        page = self.log.read(self.tail, count)
        self.tail = page.position
        items = page.items
        entries = [item for item in items if isinstance(item, Entry)]
        if entries and len(entries) == len(items) and not carefully:
            # As a subscription does with what the tail delivers.
            items = items[self.topic.bare(before, [raw(item) for item in entries], 1000) :]
        if items:
            self.topic.news(items)
        if page.ended:
            self.topic.end("completed")

    @precondition(lambda self: not self.topic.ended and not self.log.closed)
    @rule()
    def a_reconnect_brings_more_than_is_kept(self) -> None:
        self.append(FEW + 2)
        self.deliver(FEW + 2, carefully=True)

    @rule(keep=st.integers(1, 5))
    def trim(self, keep: int) -> None:
        self.log.trimmed = max(self.log.trimmed, len(self.log.entries) - keep)

    @initialize(alone=st.booleans())
    def one_viewer_or_any_number(self, alone: bool) -> None:
        """A single one that wants everything at once has a way of its own through a topic."""
        self.alone = alone
        if alone:
            self.join(0, full=False, coalesce_ms=0, wanted=None)
            self.read_for(self.asked.pop())

    @precondition(lambda self: not (self.alone and self.watched))
    @rule(
        start=st.integers(0, 40),
        full=st.booleans(),
        coalesce_ms=st.sampled_from([0, 0, 20]),
        wanted=st.sampled_from([None, None, Filter(("odd.*",))]),
    )
    def join(self, start: int, full: bool, coalesce_ms: int, wanted: Filter | None) -> None:
        at = min(start, len(self.log.entries))
        cursor = self.log.entries[at - 1].cursor if at else START
        if self.alone:
            coalesce_ms, wanted = 0, None
        sink = FakeSink()
        viewer = Viewer(sink, PLAIN, Numbering.after(cursor), coalesce_ms=coalesce_ms, wanted=wanted)
        sink.full = full
        self.watched.append(Watched(viewer, sink, cursor))
        self.sinks.append(sink)
        self.topic.join(viewer)

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        viewer = self.asked.pop(data.draw(st.integers(0, len(self.asked) - 1)))
        cursor = viewer.position.cursor
        page: PageFrames
        if cursor in self.kept and data.draw(st.booleans()):
            # Read a while ago, for somebody else.
            page = self.kept[cursor]
        else:
            page = read = RenderedPage("x", self.log.read(viewer.position, PAGE), 0.0)
            if read.entries and not read.has_gap:
                self.kept[cursor] = read
        self.topic.page(viewer, page)

    @precondition(lambda self: self.watched)
    @rule(data=st.data())
    def fill(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.watched)).sink.full = True

    @precondition(lambda self: self.watched)
    @rule(data=st.data())
    def drain(self, data: st.DataObject) -> None:
        self.release(data.draw(st.sampled_from(self.watched)))

    @precondition(lambda self: self.timers)
    @rule()
    def time_passes(self) -> None:
        self.timers.pop(0).call()

    @rule()
    def beat(self) -> None:
        self.clock += 20
        self.topic.heartbeat(self.clock, 10)

    @precondition(lambda self: self.watched)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        gone = data.draw(st.sampled_from(self.watched))
        self.watched.remove(gone)
        self.topic.leave(gone.viewer)
        if gone.viewer in self.asked:
            self.asked.remove(gone.viewer)

    def read_for(self, viewer: Viewer) -> None:
        self.topic.page(viewer, RenderedPage("x", self.log.read(viewer.position, PAGE), 0.0))

    def release(self, watched: Watched) -> None:
        watched.sink.full = False
        if watched.sink.held:
            watched.sink.held = False
            self.topic.drained(watched.viewer)

    # What must hold

    @invariant()
    def each_viewer_has_a_contiguous_stretch_after_its_cursor(self) -> None:
        for watched in self.watched:
            self.check(watched)

    @invariant()
    def each_event_that_was_written_is_counted_for_each_viewer(self) -> None:
        assert self.deliveries == sum(sink.got.count(b"E") for sink in self.sinks)

    def check(self, watched: Watched) -> int:
        """Return the number of the last entry that this viewer knows of."""
        at, told = watched.start.n, False
        for kind, number in re.findall(rb"([ESG])(\d*);", watched.sink.got):
            if kind == b"G":
                told = True
                continue
            n = int(number)
            wanted = watched.viewer.wanted
            shown = [e.cursor.n for e in self.log.entries if wanted is None or wanted.wants(e)]
            skippable = set(range(at + 1, n)) - set(shown)
            missing = set(range(at + 1, n)) - skippable
            # A cursor is told to all of a group, also to who stands there already.
            assert n > at or (kind == b"S" and n == at), f"{n} after {at}: doubled or out of order"
            assert told or not missing, f"{sorted(missing)} lost silently"
            assert kind == b"S" or n in shown
            at, told = n, False
        return at

    def teardown(self) -> None:
        """Let everything come to rest: then every viewer has all of it, and an ended log has ended all of them."""
        if not self.log.entries:
            self.append(1)
        # Enough for every viewer to read the longest log there can be in the smallest pages.
        for _ in range(20_000):
            for watched in self.watched:
                self.release(watched)
            while self.timers:
                self.timers.pop(0).call()
            if self.asked:
                self.read_for(self.asked.pop(0))
            elif not self.topic.ended and self.tail.cursor != self.log.entries[-1].cursor:
                self.deliver(5, carefully=False)
            elif not any(w.sink.held for w in self.watched):
                break
        # A filter that leaves out the last entries tells its cursor at the next tick.
        self.beat()
        for watched in self.watched:
            last = self.check(watched)
            assert last == len(self.log.entries), (last, watched.viewer.stage, watched.sink.got)
            assert watched.sink.finished == self.log.closed
            assert (watched.viewer.stage is Stage.GONE) == self.log.closed


TopicMachine.TestCase.settings = settings(max_examples=400, stateful_step_count=40, deadline=None)
TestAnyInterleavingYieldsExactlyTheSuffix = TopicMachine.TestCase


def test_a_lone_viewer_that_was_sent_to_the_log_gets_nothing_before_it_has_come_back() -> None:
    """More came at once than the window keeps, as after a reconnect, and then one more while it still reads."""
    machine = TopicMachine()
    machine.one_viewer_or_any_number(alone=True)
    assert machine.asked == []
    machine.a_reconnect_brings_more_than_is_kept()
    assert machine.asked == [machine.watched[0].viewer]
    machine.append(1)
    machine.deliver(1, carefully=False)
    assert b"E" not in machine.sinks[0].got
    machine.teardown()
