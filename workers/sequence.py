"""A pipeline, step by step: each states its start and its end, and keeps what it gave."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgpack
from pydantic import BaseModel, ValidationError

from bus.bus import Bus
from bus.checkpoints import pack
from bus.errors import (
    AppendRefusedError,
    BusClosedError,
    BusUnavailableError,
    InvalidEventError,
    InvalidInputError,
    LeaseLostError,
    PublishFailedError,
)
from bus.event import encode_json
from bus.execution import Execution, failure_of
from workers.context import Context
from workers.errors import InputInvalidError, OutputInvalidError, StepExitedError
from workers.pipeline import Outputs, Pipeline, Step

# Larger outputs are kept, but not shown in the log: every viewer would get them.
MAX_SHOWN_BYTES: Final = 64 * 1024
MAX_PROBLEMS: Final = 5

# Nobody is left to hear of a failed step, or the step is not to blame.
_NOT_THE_STEP: Final = (AppendRefusedError, BusClosedError, BusUnavailableError, LeaseLostError, PublishFailedError)

Store = Callable[[str, bytes], Awaitable[None]]
"""Keeps a step's packed output. Raises AppendRefusedError when this attempt may not write any more."""


def checked_input(model: type[BaseModel] | None, given: dict[str, Any]) -> Any:
    """Raises InputInvalidError that names the fields."""
    if model is None:
        return given
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise InputInvalidError(_problems(error)) from None


async def run_pipeline(bus: Bus, execution: Execution, pipeline: Pipeline, given: Any) -> Any:
    """Run a pipeline inside an execution that was entered, with input that was checked; return the result."""

    async def store(step: str, packed: bytes) -> None:
        await bus.checkpoints.store(execution.id, step, packed, fence=execution.fence)

    return await run_steps(pipeline, Context(execution.id, given, execution.attempt, execution), store)


async def run_steps(pipeline: Pipeline, context: Context, store: Store) -> Any:
    """Run all steps and return the result: the last output, or where it is kept if it is too large to be shown.

    What a step raises is stated in ``step.failed`` and raised.
    """
    outputs: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    for step in pipeline.steps:
        outputs[step.name], shown = await _run_step(step, context.in_step(step.name), outputs, store)
    return shown.get("output", shown)


async def _run_step(step: Step, context: Context, outputs: Outputs, store: Store) -> tuple[Any, dict[str, Any]]:
    started = time.monotonic()

    async def emit(event_type: str, data: dict[str, Any]) -> None:
        duration = {"duration_seconds": round(time.monotonic() - started, 6)}
        await context.emits.emit(event_type, {**data, **duration}, step=step.name)

    await context.emits.emit("step.started", step=step.name)
    try:
        output, packed = _kept(step, await _called(step, context, outputs))
        await store(step.name, packed)
    except _NOT_THE_STEP:
        raise
    except Exception as error:
        await emit("step.failed", failure_of(error))
        raise
    shown = _shown(step, output, len(packed))
    await emit("step.completed", shown)
    return output, shown


async def _called(step: Step, context: Context, outputs: Outputs) -> Any:
    try:
        if _is_async(step.run):
            return await step.run(context, outputs)
        returned = await asyncio.to_thread(_without_stop_iteration, step, context, outputs)
        # A lambda around an async function does not look like one.
        return await returned if inspect.isawaitable(returned) else returned
    except SystemExit as error:
        # It would end the whole worker, and with it everybody's executions.
        raise StepExitedError(step.name, error.code) from error


def _is_async(run: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(run) or inspect.iscoroutinefunction(getattr(run, "__call__", None))  # noqa: B004 - its kind is asked, not whether there is one


def _without_stop_iteration(step: Step, context: Context, outputs: Outputs) -> Any:
    try:
        return step.run(context, outputs)
    except StopIteration as error:
        # No future can carry it: whoever waits for the thread would wait for ever.
        raise RuntimeError(f"step {step.name!r} raised StopIteration") from error


def _kept(step: Step, output: Any) -> tuple[Any, bytes]:
    """The output as the next step sees it, the same whether it comes from memory or, later, from the checkpoint."""
    try:
        packed = pack(output)
        return msgpack.unpackb(packed, strict_map_key=False), packed
    except InvalidInputError as error:
        raise OutputInvalidError(step.name, error.detail) from None


def _shown(step: Step, output: Any, size_bytes: int) -> dict[str, Any]:
    if output is None:
        return {}
    try:
        encode_json(output, limit_bytes=MAX_SHOWN_BYTES)
    except InvalidEventError:
        return {"output_of": step.name, "output_bytes": size_bytes}
    return {"output": output}


def _problems(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    told = [
        f"{'.'.join(['input', *map(str, problem['loc'])])}: {problem['msg'].removeprefix('Value error, ')}"
        for problem in problems[:MAX_PROBLEMS]
    ]
    if len(problems) > MAX_PROBLEMS:
        told.append(f"and {len(problems) - MAX_PROBLEMS} more")
    return "; ".join(told)
