"""What taking makes of entries that anybody may have written."""

from __future__ import annotations

from typing import Any

import pytest

from bus.counters import Counters
from bus.jobs import Job, Jobs, UnusableJob
from bus.keys import Keys
from bus.log import Log
from bus.retention import Retention
from tests.unit.workers_core.fakes import RecordedCommands

pytestmark = pytest.mark.anyio


def jobs_over(*replies: Any) -> tuple[Jobs, RecordedCommands]:
    commands = RecordedCommands(list(replies))
    keys, retention = Keys("t"), Retention()
    return Jobs(commands, Log(commands, keys, counters=Counters(), retention=retention), keys, retention), commands


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
    jobs, _ = jobs_over({b"t:{q:default}:jobs": [[b"1-1", fields]]})
    (taken,) = await jobs.take(["default"], "me", count=1)
    assert isinstance(taken, UnusableJob)
    assert (taken.queue, taken.entry_id) == ("default", "1-1")
    assert "id" in taken.defect
    assert len(taken.defect) < 300


async def test_strange_fields_beside_the_id_do_no_harm() -> None:
    jobs, _ = jobs_over({b"t:{q:default}:jobs": [[b"1-1", [b"\xff", b"\0", b"id", b"run-1", b"odd"]]]})
    assert await jobs.take(["default"], "me", count=1) == [Job("default", "1-1", "run-1")]


@pytest.mark.parametrize("nothing", [None, {}, []])
async def test_no_jobs_are_no_jobs_in_either_protocol(nothing: object) -> None:
    jobs, _ = jobs_over(nothing)
    assert await jobs.take(["default"], "me", count=1) == []


async def test_jobs_come_in_the_order_of_the_queues_whatever_order_redis_answers_in() -> None:
    jobs, _ = jobs_over(
        {
            b"t:{q:late}:jobs": [[b"1-1", [b"id", b"b"]]],
            b"t:{q:urgent}:jobs": [[b"2-1", [b"id", b"a"]]],
        }
    )
    taken = await jobs.take(["urgent", "late"], "me", count=1)
    assert [job.queue for job in taken] == ["urgent", "late"]


async def test_nobody_waits_for_jobs_on_the_line_that_all_share() -> None:
    jobs, commands = jobs_over()
    with pytest.raises(ValueError, match="line of one's own"):
        await jobs.take(["default"], "me", count=1, block_ms=1000)
    assert not commands.sent


async def test_a_search_for_jobs_of_the_gone_goes_on_where_it_left_off() -> None:
    jobs, commands = jobs_over([b"7-0", [], []], [b"0-0", [], []], [b"0-0", [], []])
    assert await jobs.claim("default", "me", idle_seconds=10, count=2) == ([], True)
    assert await jobs.claim("default", "me", idle_seconds=10, count=2) == ([], False)
    await jobs.claim("default", "me", idle_seconds=10, count=2)
    assert [sent[5] for sent in commands.sent] == [b"0-0", b"7-0", b"0-0"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [(b"{", "is not JSON"), (b"[1]", "is not a JSON object"), (b"\xff", "is not JSON")],
)
async def test_an_input_that_a_stranger_broke_is_refused_with_the_field(given: bytes, sentence: str) -> None:
    jobs, _ = jobs_over([b"document", given, None, None])
    with pytest.raises(ValueError, match=f"input: of execution run-1 {sentence}"):
        await jobs.submission_of("run-1")
