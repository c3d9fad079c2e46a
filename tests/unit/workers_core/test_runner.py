from __future__ import annotations

import dataclasses
import functools
import sys
import threading
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from tailrace.bus.errors import FenceStaleError
from tailrace.workers.definition.context import Context
from tailrace.workers.definition.outputs import Outputs
from tailrace.workers.definition.pipeline import Pipeline, Step, StepFunction
from tailrace.workers.errors import InputInvalidError, OutputInvalidError, StepExitedError
from tailrace.workers.running.runner import checked_input, run_steps
from tailrace.workers.running.step_output import MAX_SHOWN_BYTES
from tests.unit.workers_core.fakes import RecordedRun

pytestmark = pytest.mark.anyio


async def one(ctx: Context) -> dict[str, int]:
    await ctx.log("one")
    return {"n": 1}


def two(_ctx: Context, outputs: Outputs) -> int:
    n: int = outputs["one"]["n"]
    return n + 1


async def run(*functions: StepFunction, on: RecordedRun | None = None) -> Any:
    steps = tuple(Step(getattr(each, "__name__", "step"), each) for each in functions)
    return await run_steps(Pipeline("p", steps), on or RecordedRun(), {})


def giving(output: object) -> StepFunction:
    async def step(_ctx: Context) -> object:
        return output

    return step


async def test_steps_run_in_order_and_the_last_output_is_the_result() -> None:
    on = RecordedRun()
    assert await run(one, two, on=on) == 2
    assert [(each, step) for each, _, step in on.events] == [
        ("step.started", "one"),
        ("log", "one"),
        ("step.completed", "one"),
        ("step.started", "two"),
        ("step.completed", "two"),
    ]
    assert on.outputs == {"one": {"n": 1}, "two": 2}


async def test_a_completed_step_tells_its_output_and_how_long_it_took() -> None:
    on = RecordedRun()
    await run(one, on=on)
    data = on.data_of("step.completed")
    assert data["output"] == {"n": 1}
    assert 0 <= data["duration_seconds"] < 60


async def test_a_plain_function_runs_outside_the_event_loops_thread() -> None:
    def where(_ctx: Context, _outputs: Outputs) -> bool:
        return threading.current_thread() is threading.main_thread()

    assert await run(where) is False


async def test_a_lambda_around_an_async_function_is_awaited() -> None:
    assert await run(lambda ctx, _outputs: one(ctx)) == {"n": 1}


async def test_a_partial_of_an_async_function_is_async() -> None:
    assert await run(functools.partial(one)) == {"n": 1}


async def test_an_output_is_kept_before_its_step_is_called_completed() -> None:
    """Who reads step.completed may rely on the checkpoint."""

    class Looking(RecordedRun):
        async def keep_output(self, step: str, packed: bytes) -> None:
            assert self.types == ["step.started", "log"]
            await super().keep_output(step, packed)

    on = Looking()
    await run(one, on=on)
    assert on.outputs == {"one": {"n": 1}}


async def test_what_a_step_raises_is_stated_and_no_further_step_runs() -> None:
    on = RecordedRun()

    class OddError(Exception):
        code = "odd"
        details = {"where": "here"}  # noqa: RUF012 - as careless as users are

    def fails(_ctx: Context, _outputs: Outputs) -> None:
        raise OddError("it went wrong")

    with pytest.raises(OddError):
        await run(fails, one, on=on)
    assert on.types == ["step.started", "step.failed"]
    failed = on.data_of("step.failed")
    assert (failed["reason"], failed["message"], failed["where"]) == ("odd", "it went wrong", "here")


async def test_an_exception_without_words_is_named_by_its_type() -> None:
    on = RecordedRun()

    def fails(_ctx: Context, _outputs: Outputs) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        await run(fails, on=on)
    assert on.data_of("step.failed")["message"] == "KeyError"


async def test_a_step_that_exits_fails_and_does_not_end_the_worker() -> None:
    def leaves(_ctx: Context, _outputs: Outputs) -> None:
        sys.exit(3)

    async def leaves_too(_ctx: Context, _outputs: Outputs) -> None:
        sys.exit("bye")

    with pytest.raises(StepExitedError, match=r"'leaves' called sys.exit\(3\)"):
        await run(leaves)
    with pytest.raises(StepExitedError, match=r"'leaves_too' called sys.exit\('bye'\)"):
        await run(leaves_too)


async def test_stop_iteration_from_a_thread_fails_the_step_instead_of_hanging_it() -> None:
    def stops(_ctx: Context, _outputs: Outputs) -> None:
        next(iter(()))

    with pytest.raises(RuntimeError, match="'stops' raised StopIteration"):
        await run(stops)


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (object(), "cannot be stored"),
        (2**70, "more than 64 bits"),
        ("\ud800", "half a surrogate pair"),
        (b"x" * (1024 * 1024 + 1), r"has 10485\d\d bytes, the limit is 1048576"),
    ],
    ids=["object", "huge number", "half a character", "too large"],
)
async def test_an_output_that_cannot_be_kept_fails_its_step_with_the_cure(output: object, problem: str) -> None:
    on = RecordedRun()
    with pytest.raises(OutputInvalidError, match=problem):
        await run(giving(output), on=on)
    assert on.data_of("step.failed")["reason"] == "invalid_output"


async def test_an_output_that_contains_itself_fails_its_step() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(OutputInvalidError):
        await run(giving(endless))


async def test_models_and_dataclasses_become_dicts_for_the_next_step_too() -> None:
    """What a step sees must not depend on whether it comes from memory or from a checkpoint."""

    class Model(BaseModel):
        n: int = 1

    @dataclasses.dataclass
    class Data:
        pair: tuple[int, int] = (1, 2)

    async def gives(_ctx: Context, _outputs: Outputs) -> list[object]:
        return [Model(), Data()]

    async def sees(_ctx: Context, outputs: Outputs) -> object:
        return outputs["gives"]

    assert await run(gives, sees) == [{"n": 1}, {"pair": [1, 2]}]


@pytest.mark.parametrize("output", ["x" * MAX_SHOWN_BYTES, b"bytes"], ids=["large", "not JSON"])
async def test_an_output_that_is_not_for_the_log_is_kept_and_named_instead(output: object) -> None:
    on = RecordedRun()
    result = await run(giving(output), on=on)
    assert on.outputs == {"step": output}
    assert result["output_of"] == "step"
    assert on.data_of("step.completed")["output_bytes"] == result["output_bytes"]
    assert "output" not in on.data_of("step.completed")


async def test_a_step_without_output_says_nothing_of_one() -> None:
    on = RecordedRun()
    assert await run(giving(None), on=on) == {}
    assert set(on.data_of("step.completed")) == {"duration_seconds"}


async def test_being_fenced_off_is_not_the_steps_failure() -> None:
    class Fenced(RecordedRun):
        async def keep_output(self, step: str, packed: bytes) -> None:
            raise FenceStaleError(f"{self.id}.{step}.{len(packed)}")

    on = Fenced()
    with pytest.raises(FenceStaleError):
        await run(one, on=on)
    assert "step.failed" not in on.types


class Given(BaseModel):
    model_config = ConfigDict(extra="forbid")
    path: str
    depth: int = Field(1, ge=1)


async def test_input_that_fits_becomes_the_model() -> None:
    assert checked_input(Given, {"path": "a"}) == Given(path="a")
    assert checked_input(None, {"any": "thing"}) == {"any": "thing"}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, r"input\.path: Field required"),
        ({"path": 3}, r"input\.path: Input should be a valid string"),
        ({"path": "a", "depth": 0}, r"input\.depth: .*greater than or equal to 1"),
        ({"path": "a", "pth": "b"}, r"input\.pth: Extra inputs are not permitted"),
    ],
)
async def test_input_that_does_not_fit_is_refused_with_the_fields_name(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputInvalidError, match=sentence):
        checked_input(Given, given)


async def test_a_thousand_problems_are_told_in_a_short_sentence() -> None:
    with pytest.raises(InputInvalidError, match="and 996 more") as raised:
        checked_input(Given, {"path": "a", **{f"x{n}": n for n in range(1001)}})
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Pipeline("", (Step("one", one),)), "name"),
        (lambda: Pipeline("p", ()), "steps"),
        (lambda: Pipeline("p", (Step("one", one), Step("one", two))), "more than one step named one"),
        (lambda: Pipeline("p", (Step("a\nb", one),)), "control characters"),
        (lambda: Pipeline("p", (Step("one", one),), max_attempts=0), "max_attempts"),
    ],
)
async def test_a_pipeline_that_could_never_run_is_refused_when_it_is_made(make: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        make()
