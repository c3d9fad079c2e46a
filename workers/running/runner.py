"""A pipeline, run in an execution, from its checkpoints on."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel, ValidationError

from tailrace.bus.bus import Bus
from tailrace.bus.model.event import TIMED_OUT
from tailrace.bus.ownership.execution import Execution
from tailrace.workers.definition.deadline import StepDeadline
from tailrace.workers.definition.pipeline import Pipeline
from tailrace.workers.definition.problems import sentence_of
from tailrace.workers.errors import InputInvalidError, PipelineTimeoutError, StepTimeoutError
from tailrace.workers.running.live_step import Notes
from tailrace.workers.running.run import BusPipelineExecution, PipelineExecution
from tailrace.workers.running.step_run import StepRun
from tailrace.workers.running.walk import Walk


def checked_input(model: type[BaseModel] | None, input_value: dict[str, Any]) -> Any:
    """Raises InputInvalidError that names the fields."""
    if model is None:
        return input_value
    try:
        return model.model_validate(input_value)
    except ValidationError as error:
        raise InputInvalidError(sentence_of(error, "input")) from None


async def run_pipeline(bus: Bus, execution: Execution, pipeline: Pipeline, input_value: Any) -> Any:
    """Run a pipeline inside an execution that was entered, with input that was checked; return the result.

    Goes on from the checkpoints of the attempts before. When it is not done within its time, the execution has ended
    in ``execution.timed_out`` and PipelineTimeoutError is raised. Raises also what a step raises, WorkerError for a
    pipeline that cannot be run, and BusError when events could not be appended.
    """
    while pipeline.unfold is not None:
        pipeline, input_value = pipeline.unfold(input_value)
    execution.publisher.tune(**pipeline.streaming.pace)
    try:
        return await run_steps(pipeline, BusPipelineExecution(bus, execution, pipeline.streaming), input_value)
    except PipelineTimeoutError as error:
        data = {"reason": error.code, "message": str(error), "timeout_seconds": error.timeout_seconds}
        await execution.append(TIMED_OUT, data)
        raise


async def run_steps(pipeline: Pipeline, run: PipelineExecution, input_value: Any) -> Any:
    """Run all steps and return the result: the last output, or where it is kept if it is too large to be shown.

    What a step raises is stated in ``step.failed`` and raised. Raises PipelineTimeoutError.
    """
    restored = await run.restore()
    deadline = StepDeadline(pipeline.timeout_seconds)
    steps = StepRun(run, input_value, deadline, restored.outputs, Notes(restored.states, restored.answers))
    try:
        async with deadline:
            last = await Walk(steps).one_by_one(pipeline.steps, {}, None)
    except (asyncio.CancelledError, TimeoutError, StepTimeoutError):
        if deadline.expired and pipeline.timeout_seconds is not None:
            raise PipelineTimeoutError(pipeline.name, pipeline.timeout_seconds) from None
        raise
    return last.shown.get("output", last.shown)
