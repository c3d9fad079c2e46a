"""Runs that fail and are tried again later, from their checkpoints; and jobs that come to nothing and are put aside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from pydantic import BaseModel

from tailrace.bus import Bus, DeadLetterUnknownError, Entry, ExecutionUnknownError, InvalidInputError
from tailrace.bus.jobs.dead_letters import KEPT_SECONDS, DeadLetter
from tailrace.workers import Context, Pipeline, Registry, Step
from tests.integration.workers.watching import run, types_of, until_no_jobs_left, watch, working
from tests.patience import patient

pytestmark = pytest.mark.anyio

TS = "2026-01-02T03:04:05.678000Z"


class Number(BaseModel):
    n: int


def failing(times: int, **pipeline: float) -> Registry:
    """A pipeline that fails so many times in its second step."""
    failures = 0

    async def prepare(ctx: Context) -> str:
        await ctx.log("preparing")
        return "prepared"

    async def fail(_ctx: Context) -> str:
        nonlocal failures
        failures += 1
        if failures <= times:
            raise ConnectionError(f"the model hung up, {failures}")
        return "well"

    steps = (Step("prepare", prepare), Step("fail", fail))
    return Registry([Pipeline("failing", steps, **pipeline)])  # type: ignore[arg-type]


async def of_type(entries: list[Entry], kind: str) -> list[Entry]:
    return [entry for entry in entries if entry.type == kind]


async def letters_of(bus: Bus, count: int = 1) -> list[DeadLetter]:
    """They are written after the ending, and before the job goes."""
    await bus.jobs.queues.open("default")
    await until_no_jobs_left(bus)
    letters = list(await bus.dead_letters.list("default"))
    assert len(letters) == count
    return letters


async def test_a_run_that_fails_is_tried_again_after_a_delay_and_goes_on_from_its_checkpoints(bus: Bus) -> None:
    async with working(bus, failing(2, retries=2, retry_delay_seconds=0.2)):
        entries = await run(bus, "failing", {})
        await letters_of(bus, 0)
    lifecycle = [entry for entry in types_of(entries) if entry.startswith("execution.")]
    again = ["execution.started", "execution.retrying"]
    assert lifecycle == ["execution.queued", *again, *again, "execution.started", "execution.completed"]
    first, second = await of_type(entries, "execution.retrying")
    assert (first.data["attempt"], first.data["reason"], first.data["exception"]) == (2, "exception", "ConnectionError")
    assert first.data["message"] == "the model hung up, 1"
    assert 0.02 <= first.data["delay_seconds"] <= 0.2
    assert 0.04 <= second.data["delay_seconds"] <= 0.4
    starts = await of_type(entries, "execution.started")
    for retrying, started in zip((first, second), starts[1:], strict=True):
        assert started.cursor.ms - retrying.cursor.ms >= retrying.data["delay_seconds"] * 1000 - 2
    assert [entry.data["text"] for entry in await of_type(entries, "log")] == ["preparing"]


async def test_one_that_fails_once_too_often_ends_and_is_put_aside(bus: Bus) -> None:
    async with working(bus, failing(9, retries=2, retry_delay_seconds=0.02)):
        execution_id = await bus.submit("failing", {})
        entries = await watch(bus, execution_id)
        (letter,) = await letters_of(bus)
    assert types_of(entries).count("execution.started") == 3
    assert entries[-1].type == "execution.failed"
    assert (letter.execution_id, letter.reason) == (execution_id, "exception")
    assert (letter.message, letter.pipeline, letter.attempts) == ("the model hung up, 3", "failing", 3)


async def test_one_that_is_not_to_be_tried_again_fails_at_once_and_is_its_owners_business(bus: Bus) -> None:
    async with working(bus, failing(1)):
        entries = await run(bus, "failing", {})
        await letters_of(bus, 0)
    assert types_of(entries).count("execution.started") == 1
    assert entries[-1].data["message"] == "the model hung up, 1"


async def test_failing_does_not_count_as_losing_workers(bus: Bus) -> None:
    async with working(bus, failing(3, max_attempts=1, retries=3, retry_delay_seconds=0.01)):
        entries = await run(bus, "failing", {})
    assert entries[-1].type == "execution.completed"


async def test_a_submission_can_lower_how_often_it_is_begun_and_not_raise_it(bus: Bus) -> None:
    async with working(bus, failing(9, retries=3, retry_delay_seconds=0.01)):
        lowered = await run(bus, "failing", {}, max_attempts=2)
        raised = await run(bus, "failing", {}, max_attempts=100)
    assert types_of(lowered).count("execution.started") == 2
    assert types_of(raised).count("execution.started") == 4


async def test_one_that_waits_to_be_tried_again_is_cancelled_at_once(bus: Bus) -> None:
    async with working(bus, failing(9, retries=3, retry_delay_seconds=3600)):
        execution_id = await bus.submit("failing", {})
        await watch(bus, execution_id, until="execution.retrying")
        async with asyncio.timeout(patient(10)):
            while await bus.commands.command("ZSCORE", bus.keys.delayed_jobs("default"), execution_id) is None:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        await bus.control.cancel(execution_id, by="ann")
        entries = await watch(bus, execution_id)
    assert types_of(entries)[-2:] == ["execution.cancel_requested", "execution.cancelled"]


async def test_one_that_is_cancelled_while_it_fails_is_not_tried_again(bus: Bus) -> None:
    inside = asyncio.Event()

    async def spiteful(_ctx: Context) -> None:
        inside.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("no") from None

    pipeline = Pipeline("spiteful", (Step("spiteful", spiteful),), retries=3, retry_delay_seconds=0.01)
    async with working(bus, Registry([pipeline])):
        execution_id = await bus.submit("spiteful", {})
        await inside.wait()
        await bus.control.cancel(execution_id)
        entries = await watch(bus, execution_id)
        await until_no_jobs_left(bus)
    assert entries[-1].type == "execution.cancelled"
    assert types_of(entries).count("execution.started") == 1


@pytest.mark.parametrize(
    ("pipeline", "given", "reason"),
    [("sing", {}, "unknown_pipeline"), ("number", {"n": "x"}, "invalid_input")],
)
async def test_a_job_that_no_worker_can_do_is_put_aside_with_the_reason(
    bus: Bus, pipeline: str, given: dict[str, object], reason: str
) -> None:
    async def step(_ctx: Context) -> None:
        pass

    async with working(bus, Registry([Pipeline("number", (Step("step", step),), Number, retries=5)])):
        entries = await run(bus, pipeline, given)
        (letter,) = await letters_of(bus)
    assert types_of(entries).count("execution.started") == 1
    assert entries[-1].data["reason"] == letter.reason == reason
    assert letter.message == entries[-1].data["message"]
    assert letter.pipeline == pipeline


async def test_a_job_from_which_nobody_can_tell_what_to_do_is_put_aside_and_can_only_be_dropped(bus: Bus) -> None:
    await bus.commands.command("XADD", bus.keys.jobs("default"), "*", "what", "ever")
    async with working(bus, failing(0)):
        (letter,) = await letters_of(bus)
    assert (letter.execution_id, letter.reason, letter.message) == (None, "unusable_job", "it has no field 'id'")
    with pytest.raises(InvalidInputError, match="only be dropped"):
        await bus.dead_letters.requeue("default", letter.entry_id, ts=TS)
    await bus.dead_letters.drop("default", letter.entry_id)
    assert await bus.dead_letters.list("default") == []
    with pytest.raises(DeadLetterUnknownError):
        await bus.dead_letters.drop("default", letter.entry_id)


async def test_a_job_whose_execution_is_gone_is_put_aside(bus: Bus) -> None:
    execution_id = await bus.submit("failing", {})
    await bus.commands.command("DEL", *bus.keys.of_execution(execution_id))
    async with working(bus, failing(0)):
        (letter,) = await letters_of(bus)
    assert (letter.execution_id, letter.reason) == (execution_id, "execution_unknown")
    with pytest.raises(ExecutionUnknownError):
        await bus.dead_letters.requeue("default", letter.entry_id, ts=TS)


async def test_a_dead_letter_is_tried_again_under_a_new_id_once(bus: Bus) -> None:
    async with working(bus, failing(2, retries=1, retry_delay_seconds=0.01)):
        dead = await bus.submit("failing", {"a": 1}, tenant="acme")
        before = await watch(bus, dead)
        (letter,) = await letters_of(bus)
        again = await bus.dead_letters.requeue("default", letter.entry_id, ts=TS)
        entries = await watch(bus, again)
    assert again != dead
    assert entries[-1].type == "execution.completed"
    assert entries[0].data["requeued_from"] == dead
    submission = await bus.jobs.submission_of(again)
    assert submission is not None
    assert (submission.input, submission.tenant, submission.requeued_from) == ({"a": 1}, "acme", dead)
    # What has ended stays as it was.
    assert await watch(bus, dead) == before
    assert await bus.dead_letters.list("default") == []
    with pytest.raises(DeadLetterUnknownError):
        await bus.dead_letters.requeue("default", letter.entry_id, ts=TS)


async def test_a_letter_that_was_written_twice_is_tried_again_as_one(bus: Bus) -> None:
    async with working(bus, failing(9, retries=1, retry_delay_seconds=0.01)):
        dead = await bus.submit("failing", {})
        await watch(bus, dead)
        await letters_of(bus)
    await bus.dead_letters.add(dead, "exception", "once more")
    await letters_of(bus)
    # Whoever wrote it died before it could note that it had.
    await bus.commands.command("HDEL", bus.keys.meta(dead), "dead")
    await bus.dead_letters.add(dead, "exception", "once more")
    letters = await letters_of(bus, 2)
    assert [letter.message for letter in letters] == ["once more", "the model hung up, 2"]
    ids = {await bus.dead_letters.requeue("default", letter.entry_id, ts=TS) for letter in letters}
    assert len(ids) == 1


async def test_what_was_to_be_done_is_kept_for_longer_when_it_came_to_nothing(bus: Bus) -> None:
    async with working(bus, failing(9, retries=1, retry_delay_seconds=0.01)):
        dead = await bus.submit("failing", {})
        await watch(bus, dead)
        await letters_of(bus)
    assert int(await bus.commands.command("TTL", bus.keys.meta(dead))) > KEPT_SECONDS - 60


async def test_dead_letters_are_listed_the_newest_first_page_by_page(bus: Bus) -> None:
    for n in range(5):
        await bus.dead_letters.add(f"run-{n}", "worker_lost", f"number {n}")
    pages: list[list[DeadLetter]] = []
    before: str | None = None
    while page := list(await bus.dead_letters.list("default", before=before, count=2)):
        pages.append(page)
        before = page[-1].entry_id
    assert [[letter.message for letter in page] for page in pages] == [
        ["number 4", "number 3"],
        ["number 2", "number 1"],
        ["number 0"],
    ]


@pytest.mark.parametrize("entry_id", ["x", "1-1-1", "9" * 30 + "-1"])
@pytest.mark.parametrize("act", ["drop", "requeue"])
async def test_an_id_that_no_letter_can_have_is_refused_by_name(bus: Bus, act: str, entry_id: str) -> None:
    actions: dict[str, Callable[[], object]] = {
        "drop": lambda: bus.dead_letters.drop("default", entry_id),
        "requeue": lambda: bus.dead_letters.requeue("default", entry_id, ts=TS),
    }
    with pytest.raises(InvalidInputError, match="entry_id"):
        await actions[act]()  # type: ignore[misc]


async def test_a_letter_that_a_stranger_wrote_is_listed_all_the_same(bus: Bus) -> None:
    await bus.commands.command("XADD", bus.keys.dead_letters("default"), "*", b"\xff", "x", "attempts", "9" * 99)
    (letter,) = await bus.dead_letters.list("default")
    assert (letter.execution_id, letter.reason, letter.message, letter.attempts) == (None, "unusable_job", "", 0)
