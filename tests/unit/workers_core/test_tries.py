"""Trying again, and in time."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import pytest

from tailrace.bus.errors import PublishFailedError
from tailrace.workers import (
    Context,
    OutputInvalidError,
    Parallel,
    Pipeline,
    PipelineTimeoutError,
    PlainContext,
    Step,
    StepTimeoutError,
)
from tailrace.workers.definition.deadline import StepDeadline, held
from tailrace.workers.definition.pipeline import StepFunction
from tailrace.workers.errors import StepCancelledError, StepOverError
from tailrace.workers.running.runner import run_steps
from tests.unit.workers_core.fakes import RecordedRun

pytestmark = pytest.mark.anyio

LONG_SECONDS = 60.0


async def run(*steps: Step, on: RecordedRun | None = None, **options: Any) -> Any:
    async with asyncio.timeout(LONG_SECONDS / 2):
        return await run_steps(Pipeline("p", steps, **options), on or RecordedRun(), {})


def failing(times: int, error: type[Exception] = ValueError) -> StepFunction:
    calls = 0

    async def step(_ctx: Context) -> int:
        nonlocal calls
        calls += 1
        if calls <= times:
            raise error(f"call {calls}")
        return calls

    return step


async def test_a_step_is_tried_again_and_each_retry_tells_why_and_when() -> None:
    on = RecordedRun()
    step = Step("flaky", failing(2), retries=3, retry_delay_seconds=0.001)
    assert await run(step, on=on) == 3
    assert on.types == ["step.started", "step.retrying", "step.retrying", "step.completed"]
    first, second = (data for each, data, _ in on.events if each == "step.retrying")
    assert first.items() >= {"retry": 1, "retries": 3, "message": "call 1", "exception": "ValueError"}.items()
    assert (second["retry"], second["message"]) == (2, "call 2")
    assert 0 <= first["delay_seconds"] <= 0.001


async def test_a_step_that_never_succeeds_fails_with_its_last_error() -> None:
    on = RecordedRun()
    with pytest.raises(ValueError, match="call 3"):
        await run(Step("flaky", failing(9), retries=2, retry_delay_seconds=0.001), on=on)
    assert on.types == ["step.started", "step.retrying", "step.retrying", "step.failed"]


async def test_only_what_is_worth_it_is_tried_again() -> None:
    on = RecordedRun()
    with pytest.raises(ValueError, match="call 1"):
        await run(Step("flaky", failing(1), retries=5, retry_on=(OSError,)), on=on)
    assert "step.retrying" not in on.types


async def test_an_output_that_cannot_be_kept_is_not_made_again() -> None:
    on = RecordedRun()
    with pytest.raises(OutputInvalidError):
        await run(Step("odd", object, retries=5), on=on)
    assert on.types == ["step.started", "step.failed"]


async def test_what_is_not_the_steps_fault_is_not_tried_again() -> None:
    on = RecordedRun()

    async def step(_ctx: Context) -> None:
        raise PublishFailedError("run-1", "Redis is gone", 3)

    with pytest.raises(PublishFailedError):
        await run(Step("step", step, retries=5), on=on)
    assert on.types == ["step.started"]


async def test_what_a_try_kept_is_given_to_the_next() -> None:
    async def step(ctx: Context) -> int:
        page = (ctx.restored or {"page": 0})["page"]
        await ctx.checkpoint({"page": page + 1})
        if page < 2:
            raise OSError("away")
        return int(page)

    assert await run(Step("pages", step, retries=5, retry_delay_seconds=0.001)) == 2


async def test_a_step_that_takes_too_long_is_cancelled_and_says_how_long_it_had() -> None:
    on = RecordedRun()

    async def slow(_ctx: Context) -> None:
        await asyncio.sleep(LONG_SECONDS)

    with pytest.raises(StepTimeoutError, match=r"'slow' was not done within its 0\.01 s"):
        await run(Step("slow", slow, timeout_seconds=0.01), on=on)
    assert on.data_of("step.failed")["reason"] == "timeout"


async def test_each_try_has_the_whole_time() -> None:
    waits = iter([LONG_SECONDS, 0.0])

    async def slow_once(_ctx: Context) -> str:
        await asyncio.sleep(next(waits))
        return "done"

    assert await run(Step("slow", slow_once, timeout_seconds=0.05, retries=1, retry_delay_seconds=0.001)) == "done"


async def test_a_timeout_of_the_steps_own_is_its_own_error() -> None:
    async def impatient(_ctx: Context) -> None:
        raise TimeoutError("the other side is slow")

    with pytest.raises(TimeoutError, match="the other side is slow"):
        await run(Step("impatient", impatient, timeout_seconds=LONG_SECONDS))


async def test_a_step_that_swallows_its_cancellation_has_timed_out_all_the_same() -> None:
    async def deaf(_ctx: Context) -> str:
        try:
            await asyncio.sleep(LONG_SECONDS)
        except asyncio.CancelledError:
            return "never mind"
        return "slept"

    with pytest.raises(StepTimeoutError):
        await run(Step("deaf", deaf, timeout_seconds=0.01))


async def test_a_thread_that_outlives_its_timeout_is_heard_by_nobody() -> None:
    on = RecordedRun()
    timed_out, spoken = threading.Event(), threading.Event()
    refused: list[BaseException] = []

    def slow(ctx: PlainContext) -> None:
        ctx.log("while it is time")
        timed_out.wait(LONG_SECONDS)
        try:
            ctx.log("too late")
        except StepOverError as error:
            refused.append(error)
        spoken.set()

    with pytest.raises(StepTimeoutError):
        await run(Step("slow", slow, timeout_seconds=0.05), on=on)
    timed_out.set()
    assert await asyncio.to_thread(spoken.wait, LONG_SECONDS)
    assert len(refused) == 1
    assert on.types == ["step.started", "log", "step.failed"]


async def test_threads_that_hang_keep_no_other_step_from_running() -> None:
    """A pool of threads would be used up."""
    release = threading.Event()

    def hangs() -> None:
        release.wait(LONG_SECONDS)

    try:
        for _ in range(40):
            with pytest.raises(StepTimeoutError):
                await run(Step("hangs", hangs, timeout_seconds=0.001))
        assert await run(Step("quick", lambda: "done", timeout_seconds=LONG_SECONDS)) == "done"
    finally:
        release.set()


async def test_a_pipeline_that_takes_too_long_is_stopped() -> None:
    async def slow(_ctx: Context) -> None:
        await asyncio.sleep(LONG_SECONDS)

    with pytest.raises(PipelineTimeoutError, match=r"'p' was not done within its 0\.01 s"):
        await run(Step("slow", slow, retries=5), timeout_seconds=0.01)


async def test_waiting_for_a_person_does_not_count() -> None:
    on = RecordedRun()

    async def asks(ctx: Context) -> Any:
        return await ctx.ask("go on?")

    async def answer_late() -> None:
        await on.said("review.required")
        await asyncio.sleep(0.2)
        on.give("asks.1", "yes")

    answering = asyncio.create_task(answer_late())
    assert await run(Step("asks", asks, timeout_seconds=0.05), on=on, timeout_seconds=0.1) == "yes"
    await answering


async def test_a_deadline_goes_on_with_what_was_left() -> None:
    deadline = StepDeadline(0.1)

    async def wait() -> None:
        async with deadline:
            with held([deadline]), held([deadline]):
                await asyncio.sleep(0.2)
            assert not deadline.expired
            await asyncio.sleep(LONG_SECONDS)

    with pytest.raises(TimeoutError):
        await wait()
    assert deadline.expired


async def test_no_deadline_is_for_ever() -> None:
    deadline = StepDeadline(None)
    async with deadline:
        with held([deadline]):
            pass
    assert not deadline.expired


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"timeout_seconds": 0}, "timeout_seconds is 0: it must be more than 0"),
        ({"timeout_seconds": float("inf")}, "timeout_seconds is inf"),
        ({"retries": -1}, "retries is -1: it must be 0 or more"),
        ({"retry_delay_seconds": -1}, "retry_delay_seconds is -1"),
        ({"options": {"x": 1}}, "options: its function has no parameter of that name"),
        ({"process": True}, "run: another process finds only what stands at the top of a module"),
    ],
)
async def test_a_step_that_could_never_run_is_refused_with_its_name(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=f"step 'odd': {problem}"):
        Step("odd", failing(0), **options)


@pytest.mark.parametrize("of_pipeline", [False, True], ids=["step", "pipeline"])
async def test_a_step_that_cannot_be_stopped_is_left_behind(of_pipeline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailrace.workers.running.in_time.DEAF_SECONDS", 0.05)
    on, release = RecordedRun(), asyncio.Event()
    ended: list[BaseException] = []

    async def deaf(ctx: Context) -> None:
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()
        try:
            await ctx.log("too late")
        except StepOverError as error:
            ended.append(error)

    seconds = 0.05
    step = Step("deaf", deaf, timeout_seconds=None if of_pipeline else seconds)
    with pytest.raises(PipelineTimeoutError if of_pipeline else StepTimeoutError):
        await run(step, on=on, timeout_seconds=seconds if of_pipeline else None)
    release.set()
    async with asyncio.timeout(LONG_SECONDS):
        while not ended:  # noqa: ASYNC110 - it was left behind: nobody hears of its end
            await asyncio.sleep(0)
    assert "log" not in on.types


async def test_what_a_cancelled_step_still_has_to_do_is_waited_for() -> None:
    on, cleaned = RecordedRun(), asyncio.Event()

    async def careful(ctx: Context) -> None:
        try:
            await asyncio.sleep(LONG_SECONDS)
        finally:
            await asyncio.sleep(0.05)
            await ctx.log("cleaned up")
            cleaned.set()

    task = asyncio.create_task(run(Step("careful", careful, timeout_seconds=LONG_SECONDS), on=on))
    await on.said("step.started")
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned.is_set()
    assert on.types == ["step.started", "log"]


async def cancel_something_of_its_own(_ctx: Context) -> None:
    task = asyncio.create_task(asyncio.sleep(LONG_SECONDS))
    task.cancel()
    await task


@pytest.mark.parametrize("timeout_seconds", [None, LONG_SECONDS])
async def test_attack_76_a_steps_own_cancelled_error_is_its_failure_and_is_tried_again(
    timeout_seconds: float | None,
) -> None:
    on = RecordedRun()
    step = Step(
        "own", cancel_something_of_its_own, retries=1, retry_delay_seconds=0.001, timeout_seconds=timeout_seconds
    )
    with pytest.raises(StepCancelledError):
        await run(step, on=on)
    assert on.types == ["step.started", "step.retrying", "step.failed"]
    failure = on.events[-1][1]
    assert (failure["reason"], failure["exception"]) == ("step_cancelled", "StepCancelledError")


@pytest.mark.parametrize("timeout_seconds", [None, LONG_SECONDS])
async def test_attack_76_a_step_that_cancels_the_task_it_runs_in_has_failed_and_is_tried_again(
    timeout_seconds: float | None,
) -> None:
    async def cancel_itself(_ctx: Context) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(LONG_SECONDS)

    on = RecordedRun()
    step = Step("own", cancel_itself, retries=1, retry_delay_seconds=0.001, timeout_seconds=timeout_seconds)
    with pytest.raises(StepCancelledError):
        await run(step, on=on)
    assert on.types == ["step.started", "step.retrying", "step.failed"]


async def test_a_step_that_is_cancelled_twice_from_outside_is_told_so_twice_and_waited_for() -> None:
    heard, begun = 0, asyncio.Event()
    hearing = asyncio.Event()

    async def stubborn(_ctx: Context) -> None:
        nonlocal heard
        begun.set()
        while heard < 2:
            try:
                await asyncio.sleep(LONG_SECONDS)
            except asyncio.CancelledError:
                heard += 1
                hearing.set()

    running = asyncio.create_task(run(Step("stubborn", stubborn)))
    await begun.wait()
    running.cancel()
    await hearing.wait()
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert heard == 2


async def test_attack_76_a_branchs_own_cancelled_error_fails_its_group() -> None:
    on = RecordedRun()

    async def wait(_ctx: Context) -> None:
        await asyncio.sleep(LONG_SECONDS)

    with pytest.raises(StepCancelledError):
        await run_steps(
            Pipeline("p", (Parallel(Step("own", cancel_something_of_its_own), Step("sibling", wait)),)), on, {}
        )
    assert on.types.count("step.failed") == 2


async def test_attack_76_a_plain_functions_cancelled_error_is_its_failure() -> None:
    def raise_it(_ctx: Context) -> None:
        raise asyncio.CancelledError

    with pytest.raises(StepCancelledError):
        await run(Step("own", raise_it))


async def test_attack_07_a_plain_step_is_tried_again_only_when_its_thread_has_returned() -> None:
    on, release, overlapped = RecordedRun(), threading.Event(), threading.Event()
    acting = threading.Lock()
    calls = 0

    def slow_once() -> int:
        nonlocal calls
        if not acting.acquire(blocking=False):
            overlapped.set()
            return 0
        try:
            calls += 1
            if calls == 1:
                release.wait(LONG_SECONDS)
            return calls
        finally:
            acting.release()

    step = Step("slow", slow_once, timeout_seconds=0.05, retries=1, retry_delay_seconds=0.001)
    running = asyncio.create_task(run(step, on=on))
    await on.said("step.retrying")
    for _ in range(20):
        await asyncio.sleep(0)
    release.set()
    assert await running == 2
    assert not overlapped.is_set()


async def test_attack_07_a_step_that_is_still_running_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailrace.workers.running.step_run.LEFT_SECONDS", 0.05)
    on, release = RecordedRun(), threading.Event()

    def hang() -> None:
        release.wait(LONG_SECONDS)

    try:
        step = Step("hang", hang, timeout_seconds=0.05, retries=5, retry_delay_seconds=0.001)
        with pytest.raises(StepTimeoutError, match=r"0\.05 s\. It is still running, so it is not tried again"):
            await run(step, on=on)
    finally:
        release.set()
    assert on.types.count("step.retrying") == 1
    assert on.data_of("step.failed")["reason"] == "timeout"
