from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tailrace.workers import Context, Outputs, Parallel, Pipeline, Sequential, Step
from tailrace.workers.definition.pipeline import Node, StepFunction
from tailrace.workers.running.runner import run_steps
from tailrace.workers.running.step_output import MAX_SHOWN_BYTES
from tests.patience import patient
from tests.unit.workers_core.fakes import RecordedRun

pytestmark = pytest.mark.anyio


async def run(*nodes: Node, on: RecordedRun | None = None) -> Any:
    return await run_steps(Pipeline("p", nodes), on or RecordedRun(), {"x": 1})


def giving(output: object) -> StepFunction:
    async def step(_ctx: Context) -> object:
        return output

    return step


class Meeting:
    """Steps that are done when all of them are under way at once."""

    def __init__(self, members: int) -> None:
        self._barrier = asyncio.Barrier(members)

    async def __call__(self, ctx: Context) -> str:
        await self._barrier.wait()
        return ctx.step


async def waits_for_ever(_ctx: Context) -> None:
    await asyncio.Event().wait()


async def fails(_ctx: Context) -> None:
    await asyncio.sleep(0)
    raise KeyError("it went wrong")


async def test_steps_of_a_group_run_at_the_same_time() -> None:
    meet = Meeting(3)
    async with asyncio.timeout(patient(10)):
        assert await run(Parallel(Step("a", meet), Step("b", meet), Step("c", meet))) == {"a": "a", "b": "b", "c": "c"}


async def test_sequences_within_a_group_run_side_by_side_and_each_in_order() -> None:
    on, meet = RecordedRun(), Meeting(2)
    left = Sequential(Step("a1", meet), Step("a2", lambda _ctx, a1: f"after {a1}"))
    right = Sequential(Step("b1", meet), Step("b2", lambda _ctx, b1: f"after {b1}"))
    async with asyncio.timeout(patient(10)):
        result = await run(Parallel(left, right), Step("last", lambda _ctx, outputs: sorted(outputs)), on=on)
    assert result == ["a1", "a2", "b1", "b2"]
    assert on.outputs["a2"] == "after a1"
    assert on.story.index("a1 completed") < on.story.index("a2 started")


async def test_steps_side_by_side_do_not_see_each_others_outputs() -> None:
    """Or it would depend on who was faster."""
    seen: list[list[str]] = []

    async def look(_ctx: Context, outputs: Outputs) -> None:
        seen.append(sorted(outputs))
        await asyncio.sleep(0)

    await run(Step("before", giving(1)), Parallel(*(Step(name, look) for name in "abc")))
    assert seen == [["before"]] * 3


async def test_a_failure_cancels_the_siblings_and_all_of_it_is_told() -> None:
    on = RecordedRun()
    group = Parallel(
        Step("good", giving(1)), Sequential(Step("long", waits_for_ever), Step("next", giving(1))), Step("bad", fails)
    )
    with pytest.raises(KeyError, match="it went wrong"):
        await run(group, Step("never", giving(1)), on=on)
    assert on.data_of("step.failed", "bad")["reason"] == "exception"
    sibling = {"reason": "sibling_failed", "message": "Step 'bad' of its group failed.", "sibling": "bad"}
    assert on.data_of("step.failed", "long").items() >= sibling.items()
    assert on.data_of("step.skipped", "next") == sibling
    assert "good completed" in on.story
    assert not any("never" in line for line in on.story)


async def test_a_group_within_a_group_is_cancelled_for_the_outer_ones_failure() -> None:
    on = RecordedRun()
    inner = Parallel(Step("x", waits_for_ever), Step("y", waits_for_ever))
    with pytest.raises(KeyError):
        await run(Parallel(inner, Step("bad", fails)), on=on)
    assert {on.data_of("step.failed", step)["sibling"] for step in "xy"} == {"bad"}


async def test_a_failure_within_an_inner_group_cancels_those_beside_the_outer_one() -> None:
    on = RecordedRun()
    inner = Parallel(Step("bad", fails), Step("x", waits_for_ever))
    with pytest.raises(KeyError):
        await run(Parallel(inner, Step("outside", waits_for_ever)), on=on)
    assert {on.data_of("step.failed", step)["sibling"] for step in ("x", "outside")} == {"bad"}


async def test_what_was_told_to_stop_is_not_told_as_a_siblings_failure() -> None:
    on = RecordedRun()
    task = asyncio.create_task(run(Parallel(Step("a", waits_for_ever), Step("b", waits_for_ever)), on=on))
    await on.said("step.started", times=2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert on.types == ["step.started"] * 2


async def test_the_result_of_a_last_group_is_that_of_its_branches() -> None:
    branch = Sequential(Step("a", giving(1)), Step("b", giving(2)))
    assert await run(Parallel(branch, Step("c", giving(3)))) == {"b": 2, "c": 3}


async def test_a_groups_result_too_large_for_the_log_is_named_instead() -> None:
    half = "x" * (MAX_SHOWN_BYTES // 2)
    result = await run(Parallel(Step("a", giving(half)), Step("b", giving(half))))
    assert result["output_of"] == "a + b"
    assert result["output_bytes"] > MAX_SHOWN_BYTES


async def test_steps_share_their_memory() -> None:
    async def fill(ctx: Context) -> None:
        ctx.memory["text"] = "long"

    async def read(ctx: Context) -> Any:
        return ctx.memory["text"]

    assert await run(Step("fill", fill), Step("read", read)) == "long"


@pytest.mark.parametrize("make", [Parallel, Sequential])
async def test_a_group_without_steps_is_refused(make: type[Parallel | Sequential]) -> None:
    with pytest.raises(ValueError, match="has no steps"):
        make()


async def test_a_name_may_stand_only_once_in_all_groups_together() -> None:
    with pytest.raises(ValueError, match="more than one step named a"):
        Pipeline("p", (Step("a", giving(1)), Parallel(Sequential(Step("a", giving(1))), Step("b", giving(1)))))


async def test_a_step_cannot_ask_for_what_runs_beside_it() -> None:
    def wants(_ctx: Context, a: int) -> int:
        return a

    with pytest.raises(ValueError, match="step 'b': parameter 'a' names nothing that it could get"):
        Pipeline("p", (Parallel(Step("a", giving(1)), Step("b", wants)),))
    assert Pipeline("p", (Parallel(Step("a", giving(1)), Step("c", giving(2))), Step("b", wants))).name == "p"
