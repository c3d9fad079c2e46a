"""What is said in a lost owner's place: the whole decision, without any server."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.bus.healing.decision import Cancellation, cancellation_of, judge
from tailrace.bus.model.control_request import GRACE_SECONDS, read_request
from tailrace.bus.model.event import MAX_EVENT_BYTES, encode_json
from tailrace.bus.model.fence import Fence
from tailrace.bus.model.reading import RawEntry
from tailrace.bus.ownership.lease import Lease, Orphan


def orphan(
    *,
    attempt: int = 1,
    max_attempts: int | None = 3,
    submitted: bool = True,
    lost_owner: str = "w1",
    forced: bool = False,
) -> Orphan:
    return Orphan(
        Lease("run", "healer", Fence(9, "s"), attempt, "running"), lost_owner, max_attempts, submitted, forced=forced
    )


def request(entry_id: str, data: Any = None, *, event_type: str = "execution.cancel_requested") -> RawEntry:
    fields = [b"r", b"7-" + entry_id[:1].encode(), b"t", event_type.encode(), b"ts", b"now", b"d", orjson.dumps(data)]
    return [entry_id.encode(), fields]


def test_while_attempts_remain_it_is_tried_again() -> None:
    event = judge(orphan(attempt=2), None, cancelling=False)
    assert event.type == "execution.retrying"
    assert event.data == {"attempt": 3, "reason": "worker_lost", "lost_owner": "w1"}


@pytest.mark.parametrize(("attempt", "most"), [(3, 3), (4, 3), (1, 1), (3, None)])
def test_after_the_last_attempt_it_has_failed_for_the_true_reason(attempt: int, most: int | None) -> None:
    event = judge(orphan(attempt=attempt, max_attempts=most), None, cancelling=False)
    assert event.type == "execution.failed"
    assert (event.data["reason"], event.data["attempts"], event.data["lost_owner"]) == ("worker_lost", attempt, "w1")
    assert "w1" in event.data["message"]


def test_what_a_program_ran_by_itself_nobody_else_can_run_again() -> None:
    event = judge(orphan(submitted=False), None, cancelling=False)
    assert (event.type, event.data["reason"]) == ("execution.failed", "worker_lost")
    assert "not submitted" in event.data["message"]


def test_one_that_was_to_cancel_is_cancelled_whatever_attempts_remain() -> None:
    asked = Cancellation("7-4", "ann", "too dear", 5)
    event = judge(orphan(), asked, cancelling=True)
    assert event.type == "execution.cancelled"
    assert event.data == {
        "reason": "too dear", "request": "7-4", "by": "ann", "lost_owner": "w1",
    }  # fmt: skip


def test_a_cancellation_without_a_reason_has_the_word_for_it() -> None:
    assert judge(orphan(), None, cancelling=True).data["reason"] == "cancelled"


def test_an_owner_that_lived_and_did_not_obey_was_forced() -> None:
    assert judge(orphan(forced=True), None, cancelling=True).data["forced"] is True


def test_the_first_request_is_answered_and_the_shortest_grace_holds() -> None:
    asked = cancellation_of(
        [
            request("1000-0", {"by": "ann", "grace_seconds": 60}),
            request("2000-0", {"name": "x"}, event_type="execution.signal_requested"),
            request("3000-0", {"by": "bob", "reason": "now", "grace_seconds": 0.5}),
        ]
    )
    assert asked == Cancellation("7-1", "ann", None, 3500)


def test_without_a_request_there_is_no_cancellation() -> None:
    assert cancellation_of([]) is None
    assert cancellation_of([request("1-0", {}, event_type="execution.pause_requested")]) is None


@pytest.mark.parametrize("grace", [None, "10", [], True, {}, -5, 100_000, 1e300, 0, 2.5, 86_400])
def test_a_healer_gives_an_owner_the_grace_that_the_owner_reads(grace: Any) -> None:
    raw = request("1000-0", {"grace_seconds": grace})
    asked = cancellation_of([raw])
    assert asked is not None
    assert asked.over_ms == 1000 + read_request(raw).grace_seconds * 1000


@pytest.mark.parametrize("grace", [None, "10", True, -5, 100_000])
def test_a_grace_that_is_not_valid_counts_as_the_usual_one(grace: Any) -> None:
    asked = cancellation_of([request("1000-0", {"grace_seconds": grace})])
    assert asked is not None
    assert asked.over_ms == 1000 + GRACE_SECONDS * 1000


def test_a_request_that_the_owner_refuses_is_none_for_a_healer() -> None:
    unnumbered = [b"1000-0", [b"t", b"execution.cancel_requested", b"d", b"{}"]]
    assert cancellation_of([unnumbered]) is None


fields = st.lists(
    st.sampled_from([b"t", b"d", b"r", b"execution.cancel_requested", b'{"by": 1}', b"{", b"\xff", b"[]"])
)
entries = st.lists(st.tuples(st.sampled_from([b"1-0", b"5-3"]), st.none() | fields))


@given(entries)
def test_whatever_strangers_write_into_the_control_stream_is_read(raw: list[RawEntry]) -> None:
    asked = cancellation_of(raw)
    encode_json(judge(orphan(), asked, cancelling=True).data)


@given(st.text(max_size=3), st.integers(0, 5), st.none() | st.integers(0, 5), st.booleans(), st.booleans())
def test_every_decision_can_be_written(
    lost_owner: str, attempt: int, most: int | None, submitted: bool, cancelling: bool
) -> None:
    huge = orphan(
        attempt=attempt, max_attempts=most, submitted=submitted, lost_owner=lost_owner.replace("\ud800", "") * 9999
    )
    event = judge(huge, Cancellation("1-1", "b" * 4000, "r" * 4000, 0), cancelling=cancelling)
    assert len(encode_json(event.data)) < MAX_EVENT_BYTES / 8
