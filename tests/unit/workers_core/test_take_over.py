"""What the next worker does with what the last one kept."""

from __future__ import annotations

from typing import Any

import pytest

from tailrace.workers import Condition, Context, Parallel, Pipeline, Step
from tailrace.workers.running.runner import run_steps
from tests.unit.workers_core.fakes import RecordedRun

pytestmark = pytest.mark.anyio


class LostError(BaseException):
    """The worker is gone: nothing after this happens."""


class Work:
    """Counts its calls; the first worker is lost in ``second``."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def first(self, _ctx: Context) -> dict[str, int]:
        self.calls.append("first")
        return {"n": 1}

    async def second(self, ctx: Context, first: dict[str, int]) -> int:
        self.calls.append("second")
        if ctx.restored is None:
            await ctx.checkpoint({"page": 7})
            raise LostError
        return int(first["n"] + ctx.restored["page"])

    async def third(self, _ctx: Context, second: int) -> int:
        self.calls.append("third")
        return second + 1

    @property
    def pipeline(self) -> Pipeline:
        return Pipeline("p", (Step("first", self.first), Step("second", self.second), Step("third", self.third)))


async def test_completed_steps_are_skipped_and_their_outputs_are_there() -> None:
    work, lost = Work(), RecordedRun()
    with pytest.raises(LostError):
        await run_steps(work.pipeline, lost, {})
    on = lost.taken_over()
    assert await run_steps(work.pipeline, on, {}) == 9
    assert work.calls == ["first", "second", "second", "third"]
    assert on.story == [
        "first skipped",
        "second started",
        "second completed",
        "third started",
        "third completed",
    ]
    assert on.data_of("step.skipped") == {"reason": "checkpoint"}


async def test_a_run_whose_last_step_was_done_still_has_its_result() -> None:
    """Its worker was lost between the last checkpoint and the ending."""
    work, lost = Work(), RecordedRun()
    lost.states["second"] = {"page": 1}
    lost = lost.taken_over()
    assert await run_steps(work.pipeline, lost, {}) == 3
    lost.outputs |= {"first": {"n": 1}, "second": 2, "third": 3}
    on = lost.taken_over()
    assert await run_steps(work.pipeline, on, {}) == 3
    assert on.types == ["step.skipped"] * 3


async def test_of_a_group_only_what_was_not_done_is_done() -> None:
    lost = RecordedRun()
    lost.outputs["a"] = "kept"
    on = lost.taken_over()

    async def give(ctx: Context) -> str:
        return f"{ctx.step} made"

    result = await run_steps(Pipeline("p", (Parallel(Step("a", give), Step("b", give)),)), on, {})
    assert result == {"a": "kept", "b": "b made"}


async def test_a_condition_decides_by_what_was_kept() -> None:
    lost = RecordedRun()
    lost.outputs["check"] = {"passed": False}
    on = lost.taken_over()

    async def never(_ctx: Context) -> Any:
        raise AssertionError

    steps = (Step("check", never), Step("publish", never, when=Condition(step="check", path="passed", equals=True)))
    assert await run_steps(Pipeline("p", steps), on, {}) == {"passed": False}
    assert [data["reason"] for _, data, _ in on.events] == ["checkpoint", "condition"]
