"""The outbox holds what the log does not have yet: all of it, in order, within its bounds."""

from __future__ import annotations

import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tailrace.bus.errors import InvalidEventError
from tailrace.bus.log.outbox import MAX_MERGED_CHARS, Outbox, Pending
from tailrace.bus.model.event import Event

TS = "2026-01-02T03:04:05.000006Z"
texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(["\x00" * 10, "\U0001f600" * 5, ""])
steps = st.sampled_from([None, "plan", "write"])


def fields_of(pending: Pending) -> dict[bytes, bytes]:
    return dict(zip(pending.fields[::2], pending.fields[1::2], strict=True))


def shown(batch: list[Pending]) -> list[tuple[str, str | None, Any]]:
    """Type, step and data of what would be appended."""
    result = []
    for pending in batch:
        fields = fields_of(pending)
        step = fields.get(b"s")
        data = orjson.loads(fields[b"d"]) if b"d" in fields else None
        result.append((fields[b"t"].decode(), step.decode() if step else None, data))
    return result


def joined(events: list[tuple[str, str | None, Any]]) -> list[tuple[str, str | None, Any]]:
    """The same story with all mergeable neighbours merged: what merging must not change."""
    story: list[tuple[str, str | None, Any]] = []
    for kind, step, data in events:
        if kind == "token" and story and story[-1][:2] == (kind, step):
            story[-1] = (kind, step, {"text": story[-1][2]["text"] + data["text"]})
        else:
            story.append((kind, step, data))
    return story


class OutboxMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox(max_events=20, max_bytes=8000, batch_events=5, batch_bytes=1500, limit_bytes=600)
        self.emitted: list[tuple[str, str | None, Any]] = []
        self.appended: list[tuple[str, str | None, Any]] = []
        self.in_flight: list[Pending] | None = None

    @precondition(lambda self: not self.outbox.full)
    @rule(text=texts, step=steps)
    def a_token_comes(self, text: str, step: str | None) -> None:
        self.outbox.add(Event("token", {"text": text}, step), TS)
        self.emitted.append(("token", step, {"text": text}))

    @precondition(lambda self: not self.outbox.full)
    @rule(step=steps, data=st.none() | st.integers(0, 9) | st.text(alphabet="ab", max_size=200))
    def another_event_comes(self, step: str | None, data: Any) -> None:
        self.outbox.add(Event("log", data, step), TS)
        self.emitted.append(("log", step, data))

    @rule()
    def one_that_is_refused_comes(self) -> None:
        held = self.outbox.held_events, self.outbox.size_bytes
        with pytest.raises(InvalidEventError):
            self.outbox.add(Event("log", "x" * 601), TS)
        assert (self.outbox.held_events, self.outbox.size_bytes) == held

    @precondition(lambda self: self.in_flight is None)
    @rule()
    def a_batch_is_taken(self) -> None:
        batch = self.outbox.take()
        assert len(batch) <= 5
        assert len(batch) <= 1 or sum(pending.size_bytes for pending in batch) <= 1500
        assert all(len(fields_of(pending).get(b"d", b"")) <= 600 for pending in batch)
        self.in_flight = batch

    @precondition(lambda self: self.in_flight is not None)
    @rule()
    def the_log_has_it(self) -> None:
        assert self.in_flight is not None
        self.outbox.confirm(self.in_flight)
        self.appended += shown(self.in_flight)
        self.in_flight = None

    @invariant()
    def bounds_hold(self) -> None:
        # The last one that fitted may overshoot by itself, no more.
        assert self.outbox.held_events <= 20
        assert self.outbox.size_bytes <= 8000 + 600 + 300
        in_flight = self.in_flight or []
        assert self.outbox.held_events == len(self.outbox.waiting) + len(in_flight)
        held = sum(pending.size_bytes for pending in [*self.outbox.waiting, *in_flight])
        assert self.outbox.size_bytes == held

    @invariant()
    def a_batch_weighs_no_more_than_it_was_counted(self) -> None:
        for pending in self.in_flight or []:
            assert sum(map(len, pending.fields)) <= pending.size_bytes

    def teardown(self) -> None:
        if self.in_flight is not None:
            self.the_log_has_it()
        while self.outbox.waiting:
            self.a_batch_is_taken()
            self.the_log_has_it()
        assert (self.outbox.held_events, self.outbox.size_bytes) == (0, 0)
        assert joined(self.appended) == joined(self.emitted)


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def outbox(limit_bytes: int = 256 * 1024) -> Outbox:
    return Outbox(max_events=10_000, max_bytes=16 * 1024 * 1024, limit_bytes=limit_bytes)


def test_adjacent_tokens_of_a_step_become_one_event() -> None:
    box = outbox()
    added = [box.add(Event("token", {"text": text}, "write"), TS) for text in ("Hel", "lo ", "world")]
    assert added == [False, True, True]
    assert shown(box.take()) == [("token", "write", {"text": "Hello world"})]


def test_adjacent_tokens_of_equal_meta_merge_and_keep_it() -> None:
    box = outbox()
    box.meta = {"trace": "4bf9"}
    meta = {"node": "write"}
    added = [box.add(Event("token", {"text": text}, "write", None, dict(meta)), TS) for text in ("Hel", "lo ", "world")]
    meta["node"] = "check"
    added.append(box.add(Event("token", {"text": "!"}, "write", None, meta), TS))
    assert added == [False, True, True, False]
    batch = box.take()
    assert shown(batch) == [("token", "write", {"text": "Hello world"}), ("token", "write", {"text": "!"})]
    assert [orjson.loads(fields_of(pending)[b"m"]) for pending in batch] == [
        {"trace": "4bf9", "node": "write"},
        {"trace": "4bf9", "node": "check"},
    ]


def test_a_merged_token_has_the_time_of_its_first_piece() -> None:
    box = outbox()
    box.add(Event("token", {"text": "a"}), "2026-01-01T00:00:00.000000Z")
    box.add(Event("token", {"text": "b"}), "2026-01-01T00:00:01.000000Z")
    assert fields_of(box.take()[0])[b"ts"] == b"2026-01-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    "second",
    [
        Event("token", {"text": "b"}, "other"),
        Event("token", {"text": "b"}, "write", None, {"k": 1}),
        Event("token", {"text": "b", "index": 1}, "write"),
        Event("token", {"delta": "b"}, "write"),
        Event("token", "b", "write"),
        Event("token", {"text": 5}, "write"),
        Event("token", {"text": "b" * MAX_MERGED_CHARS}, "write"),
        Event("log", {"text": "b"}, "write"),
    ],
    ids=["step", "meta", "more data", "other data", "no object", "no text", "long", "type"],
)
def test_what_says_more_than_text_never_merges(second: Event) -> None:
    box = outbox()
    box.add(Event("token", {"text": "a"}, "write"), TS)
    assert not box.add(second, TS)
    assert len(box.take()) == 2


def test_what_was_taken_is_not_merged_into_any_more() -> None:
    box = outbox()
    box.add(Event("token", {"text": "a"}), TS)
    batch = box.take()
    assert not box.add(Event("token", {"text": "b"}), TS)
    assert shown(batch + box.take()) == [("token", None, {"text": "a"}), ("token", None, {"text": "b"})]


@given(st.lists(texts, max_size=60), st.integers(256, 2000))
def test_merged_text_never_outgrows_the_limit_of_an_event(pieces: list[str], limit_bytes: int) -> None:
    box = outbox(limit_bytes)
    for piece in pieces:
        box.add(Event("token", {"text": piece}), TS)
    batch = box.take()
    assert all(len(fields_of(pending)[b"d"]) <= limit_bytes for pending in batch)
    assert "".join(data["text"] for _, _, data in shown(batch)) == "".join(pieces)


def test_half_a_surrogate_pair_is_refused_when_it_is_emitted_not_when_it_is_sealed() -> None:
    """A language model's client may cut a pair in two; found only while sealing, it would kill the publisher."""
    box = outbox()
    box.add(Event("token", {"text": "a"}), TS)
    with pytest.raises(InvalidEventError):
        box.add(Event("token", {"text": "\ud83d"}), TS)
    assert shown(box.take()) == [("token", None, {"text": "a"})]


def test_pieces_without_text_are_bounded_too() -> None:
    box = outbox()
    merged = [box.add(Event("token", {"text": ""}), TS) for _ in range(2 * MAX_MERGED_CHARS)]
    assert merged.count(False) == 2
    assert box.size_bytes > MAX_MERGED_CHARS


def test_data_that_changes_after_it_was_emitted_is_appended_as_it_was() -> None:
    box = outbox()
    data = {"progress": 1}
    box.add(Event("step.progress", data), TS)
    data["progress"] = 2
    assert shown(box.take()) == [("step.progress", None, {"progress": 1})]


def test_a_single_event_larger_than_a_batch_goes_alone() -> None:
    box = Outbox(max_events=10, max_bytes=10_000, batch_bytes=100)
    for _ in range(3):
        box.add(Event("log", "x" * 500), TS)
    assert [len(box.take()) for _ in range(3)] == [1, 1, 1]


def test_a_waiting_event_takes_about_as_much_memory_as_it_is_counted_for() -> None:
    box = Outbox(10**6, 10**9)
    tracemalloc.start()
    try:
        for number in range(1000):
            box.add(Event("command.output", {"text": f"{number}"}, step="run"), "2026-01-02T03:04:05.678901Z")
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 4 * box.size_bytes
