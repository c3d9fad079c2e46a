"""What taking makes of entries that anybody may have written."""

from __future__ import annotations

from typing import Any

import pytest

from tailrace.bus.errors import InvalidInputError
from tailrace.bus.jobs.queue import Job, Queues, UnusableJob
from tailrace.bus.model.event import check_execution_id
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.submission import (
    SUBMISSION_FIELDS,
    Submission,
    check_delay_seconds,
    check_key,
    check_max_attempts,
    id_of_key,
    parse_submission,
)
from tests.unit.workers_core.fakes import RecordedCommands

pytestmark = pytest.mark.anyio


def queues_over(*replies: Any) -> tuple[Queues, RecordedCommands]:
    commands = RecordedCommands(list(replies))
    return Queues(commands, Keys("t")), commands


@pytest.mark.parametrize(
    "fields",
    [
        [],
        None,
        [b"x", b"1"],
        [b"id"],
        [b"id", b""],
        [b"id", b"a b"],
        [b"id", b"../../etc"],
        [b"id", b"\xff\xfe"],
        [b"id", b"x" * 129],
        [b"id", b"a\nb"],
        [b"id", b"{other}"],
    ],
)
async def test_an_entry_that_names_no_execution_is_unusable_and_says_why(fields: list[bytes] | None) -> None:
    queues, _ = queues_over({b"t:{q:default}:jobs": [[b"1-1", fields]]})
    (taken,) = await queues.take(["default"], "me", count=1)
    assert isinstance(taken, UnusableJob)
    assert (taken.queue, taken.entry_id) == ("default", "1-1")
    assert "id" in taken.defect
    assert len(taken.defect) < 300


async def test_strange_fields_beside_the_id_do_no_harm() -> None:
    queues, _ = queues_over({b"t:{q:default}:jobs": [[b"1-1", [b"\xff", b"\0", b"id", b"run-1", b"odd"]]]})
    assert await queues.take(["default"], "me", count=1) == [Job("default", "1-1", "run-1")]


@pytest.mark.parametrize("nothing", [None, {}, []])
async def test_no_jobs_are_no_jobs_in_either_protocol(nothing: object) -> None:
    queues, _ = queues_over(nothing)
    assert await queues.take(["default"], "me", count=1) == []


async def test_jobs_come_in_the_order_of_the_queues_whatever_order_redis_answers_in() -> None:
    queues, _ = queues_over(
        {
            b"t:{q:late}:jobs": [[b"1-1", [b"id", b"b"]]],
            b"t:{q:urgent}:jobs": [[b"2-1", [b"id", b"a"]]],
        }
    )
    taken = await queues.take(["urgent", "late"], "me", count=1)
    assert [job.queue for job in taken] == ["urgent", "late"]


async def test_nobody_waits_for_jobs_on_the_line_that_all_share() -> None:
    queues, commands = queues_over()
    with pytest.raises(ValueError, match="connection of its own"):
        await queues.take(["default"], "me", count=1, block_ms=1000)
    assert not commands.sent


async def test_a_search_for_jobs_of_the_gone_goes_on_where_it_left_off() -> None:
    queues, commands = queues_over([b"7-0", [], []], [b"0-0", [], []], [b"0-0", [], []])
    assert await queues.claim("default", "me", idle_seconds=10, count=2) == ([], True)
    assert await queues.claim("default", "me", idle_seconds=10, count=2) == ([], False)
    await queues.claim("default", "me", idle_seconds=10, count=2)
    assert [sent[5] for sent in commands.sent] == [b"0-0", b"7-0", b"0-0"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [(b"{", "is not JSON"), (b"[1]", "is not a JSON object"), (b"\xff", "is not JSON")],
)
def test_an_input_that_a_stranger_broke_is_refused_with_the_field(given: bytes, sentence: str) -> None:
    values = {"pipeline": b"document", "input": given}
    with pytest.raises(ValueError, match=f"input: of execution run-1 {sentence}"):
        parse_submission("run-1", [values.get(name) for name in SUBMISSION_FIELDS])


def read_back(submission: Submission) -> Submission | None:
    fields = [each if isinstance(each, bytes) else each.encode() for each in submission.fields(0)]
    state = dict(zip(fields[::2], fields[1::2], strict=True))
    return parse_submission(submission.execution_id, [state.get(name.encode()) for name in SUBMISSION_FIELDS])


@pytest.mark.parametrize(
    "submission",
    [
        Submission("run-1", "document", {}),
        Submission("run-1", "document", {"a": [1, "é"]}, "urgent", "acme", "user:7", 2, 1.5, "run-0"),
    ],
)
def test_a_submission_is_read_back_as_it_was_noted(submission: Submission) -> None:
    assert read_back(submission) == submission


def test_numbers_that_a_stranger_broke_count_as_absent() -> None:
    values = {"pipeline": b"p", "input": b"{}", "asked_attempts": b"-1", "delay_ms": b"9" * 400}
    submission = parse_submission("run-1", [values.get(name) for name in SUBMISSION_FIELDS])
    assert submission == Submission("run-1", "p", {})


def test_attack_68_one_is_one_however_it_is_written() -> None:
    one = Submission("a", "p", {"x": [1, {"y": 2}]})
    assert one.fingerprint == Submission("a", "p", {"x": [1.0, {"y": 2.0}]}).fingerprint
    assert one.fingerprint != Submission("a", "p", {"x": [1.5, {"y": 2}]}).fingerprint
    assert one.fingerprint != Submission("a", "p", {"x": [True, {"y": 2}]}).fingerprint


def test_the_fingerprint_tells_what_is_to_be_done_and_not_when() -> None:
    one = Submission("a", "p", {"x": 1, "y": 2})
    assert one.fingerprint == Submission("b", "p", {"y": 2, "x": 1}, delay_seconds=9).fingerprint
    others = [
        Submission("a", "q", {"x": 1, "y": 2}),
        Submission("a", "p", {"x": 1}),
        Submission("a", "p", {"x": 1, "y": 2}, queue="urgent"),
        Submission("a", "p", {"x": 1, "y": 2}, tenant="acme"),
        Submission("a", "p", {"x": 1, "y": 2}, concurrency_key="k"),
        Submission("a", "p", {"x": 1, "y": 2}, max_attempts=1),
    ]
    assert len({each.fingerprint for each in [one, *others]}) == 7


def test_an_idempotency_key_gives_an_id_of_its_tenant_that_never_changes() -> None:
    assert id_of_key(None, "order-7") == "637a4e56-bb76-5a46-92c5-f25e00784d64"
    ids = {id_of_key(tenant, key) for tenant, key in ((None, "a"), ("", "a"), ("t", "a"), ("t", "b"), ("t,a", "a"))}
    assert len(ids) == 5
    assert all(check_execution_id(each) == each for each in ids)


@pytest.mark.parametrize("key", ["", "x" * 257, "a\nb", "a\x00", 7, None, "\ud800"])
def test_a_key_that_cannot_be_used_is_refused_with_the_field(key: object) -> None:
    with pytest.raises(InvalidInputError, match="concurrency_key: must be text"):
        check_key(key, field="concurrency_key")


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e12])
def test_a_delay_that_no_queue_keeps_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidInputError, match="delay_seconds"):
        check_delay_seconds(seconds)


@pytest.mark.parametrize("attempts", [0, -1, 1001])
def test_a_number_of_attempts_that_makes_no_sense_is_refused(attempts: int) -> None:
    with pytest.raises(InvalidInputError, match="max_attempts"):
        check_max_attempts(attempts)
