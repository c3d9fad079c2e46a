"""A pipeline, run: each step states its start and its end, and keeps what it gave."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from bus.bus import Bus
from bus.errors import (
    AppendRefusedError,
    BusClosedError,
    BusUnavailableError,
    LeaseLostError,
    PublishFailedError,
)
from bus.event import TIMED_OUT
from bus.execution import Execution, failure_of
from bus.retry import Backoff
from workers.context import Context
from workers.deadline import Deadline
from workers.errors import (
    InputInvalidError,
    OutputInvalidError,
    PipelineTimeoutError,
    StepInputInvalidError,
    StepProcessError,
    StepTimeoutError,
)
from workers.in_time import in_time
from workers.kept import Kept, shown
from workers.live_step import LiveStep, Notes
from workers.outputs import Outputs
from workers.pipeline import Node, Parallel, Pipeline, Sequence, Step
from workers.problems import sentence_of
from workers.process_step import called_in_process
from workers.run import BusRun, Run
from workers.step_call import called, prepared

# Nobody is left to hear of a failed step, or the step is not to blame.
_NOT_THE_STEP: Final = (AppendRefusedError, BusClosedError, BusUnavailableError, LeaseLostError, PublishFailedError)
# Trying again could only end the same way.
_FOR_GOOD: Final = (StepInputInvalidError, OutputInvalidError)


def checked_input(model: type[BaseModel] | None, given: dict[str, Any]) -> Any:
    """Raises InputInvalidError that names the fields."""
    if model is None:
        return given
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise InputInvalidError(sentence_of(error, "input")) from None


async def run_pipeline(bus: Bus, execution: Execution, pipeline: Pipeline, given: Any) -> Any:
    """Run a pipeline inside an execution that was entered, with input that was checked; return the result.

    Goes on from the checkpoints of the attempts before. When it is not done within its time, the execution has ended
    in ``execution.timed_out`` and PipelineTimeoutError is raised. Raises also what a step raises, WorkerError for a
    pipeline that cannot be run, and BusError when events could not be appended.
    """
    while pipeline.unfold is not None:
        pipeline, given = pipeline.unfold(given)
    execution.publisher.tune(**pipeline.streaming.pace)
    try:
        return await run_steps(pipeline, BusRun(bus, execution, pipeline.streaming), given)
    except PipelineTimeoutError as error:
        data = {"reason": error.code, "message": str(error), "timeout_seconds": error.timeout_seconds}
        await execution.append(TIMED_OUT, data)
        raise


async def run_steps(pipeline: Pipeline, run: Run, given: Any) -> Any:
    """Run all steps and return the result: the last output, or where it is kept if it is too large to be shown.

    What a step raises is stated in ``step.failed`` and raised. Raises PipelineTimeoutError.
    """
    restored = await run.restore()
    deadline = Deadline(pipeline.timeout_seconds)
    steps = _Steps(run, given, deadline, restored.outputs, Notes(restored.states, restored.answers))
    try:
        async with deadline:
            last = await steps.one_by_one(pipeline.steps, {}, None)
    except (asyncio.CancelledError, TimeoutError, StepTimeoutError):
        if deadline.expired and pipeline.timeout_seconds is not None:
            raise PipelineTimeoutError(pipeline.name, pipeline.timeout_seconds) from None
        raise
    return last.shown.get("output", last.shown)


@dataclass(frozen=True, slots=True)
class _Done:
    """What a node gave: the outputs of its steps by name, its own, and that as the log shows it."""

    name: str = ""
    outputs: dict[str, Any] = field(default_factory=dict)
    output: Any = None
    shown: dict[str, Any] = field(default_factory=dict)
    size_bytes: int = 0
    skipped: bool = False


@dataclass(slots=True)
class _Group:
    """A parallel group under way; ``failed`` names the step for which its siblings are cancelled."""

    parent: _Group | None
    failed: str | None = None

    @property
    def to_blame(self) -> str | None:
        if self.failed is not None or self.parent is None:
            return self.failed
        return self.parent.to_blame


@dataclass(frozen=True, slots=True)
class _Steps:
    run: Run
    given: Any
    deadline: Deadline
    restored: dict[str, Any]
    notes: Notes
    memory: dict[str, Any] = field(default_factory=dict)

    async def one_by_one(self, nodes: tuple[Node, ...], outputs: Outputs, group: _Group | None) -> _Done:
        seen = dict(outputs)
        gave: dict[str, Any] = {}
        last = _Done(skipped=True)
        for index, node in enumerate(nodes):
            try:
                done = await self._node(node, seen, group)
            except asyncio.CancelledError:
                await self._tell_unbegun(nodes[index + 1 :], group)
                raise
            seen |= done.outputs
            gave |= done.outputs
            last = last if done.skipped and last.name else done
        return _Done(last.name, gave, last.output, last.shown, last.size_bytes, last.skipped)

    async def _node(self, node: Node, outputs: Outputs, group: _Group | None) -> _Done:
        match node:
            case Step():
                return await self._step(node, outputs, group)
            case Sequence():
                return await self.one_by_one(node.nodes, outputs, group)
            case Parallel():
                return await self._side_by_side(node, outputs, group)

    async def _side_by_side(self, parallel: Parallel, outputs: Outputs, parent: _Group | None) -> _Done:
        group = _Group(parent)
        try:
            async with asyncio.TaskGroup() as tasks:
                branches = [tasks.create_task(self._node(node, outputs, group)) for node in parallel.nodes]
        except BaseExceptionGroup as errors:
            # The first is why the others were cancelled.
            raise errors.exceptions[0] from None
        done = [branch.result() for branch in branches]
        output = {each.name: each.output for each in done}
        size = sum(each.size_bytes for each in done)
        return _Done(
            name=" + ".join(output),
            outputs={name: output for each in done for name, output in each.outputs.items()},
            output=output,
            shown=shown(" + ".join(output), output, size),
            size_bytes=size,
            skipped=all(each.skipped for each in done),
        )

    async def _step(self, step: Step, outputs: Outputs, group: _Group | None) -> _Done:
        started = time.monotonic()
        begun = False
        try:
            await self.run.pause_point()
            if step.name in self.restored:
                kept = Kept.of(step.name, self.restored[step.name])
                await self._skipped(step, {"reason": "checkpoint"})
                return self._done(step, kept)
            if step.when is not None and not step.when(self.given, outputs):
                await self._skipped(step, {"reason": "condition"})
                return _Done(step.name, {step.name: None}, skipped=True)
            await self.run.emit("step.started", step=step.name)
            begun = True
            kept = await self._tried(step, outputs)
            await self.run.keep_output(step.name, kept.packed)
        except _NOT_THE_STEP:
            raise
        except asyncio.CancelledError:
            if group is not None and group.to_blame is not None:
                told = _cancelled_for(group.to_blame)
                await (self._failed(step, started, told) if begun else self._skipped(step, told))
            raise
        except Exception as error:
            await self._failed(step, started, failure_of(error))
            if group is not None and group.failed is None:
                group.failed = step.name
            raise
        done = self._done(step, kept)
        await self.run.emit("step.completed", {**done.shown, **_duration(started)}, step=step.name)
        return done

    async def _tried(self, step: Step, outputs: Outputs) -> Kept:
        backoff = Backoff(step.retry_delay_seconds, step.max_retry_delay_seconds)
        tried = 0
        while True:
            try:
                return await self._try(step, outputs)
            except _NOT_THE_STEP:
                raise
            except Exception as error:
                tried += 1
                if tried > step.retries or not _may_retry(step, error):
                    raise
                delay = backoff.delay_seconds(tried, random.random)
                told = {"retry": tried, "retries": step.retries, "delay_seconds": round(delay, 3)}
                await self.run.emit("step.retrying", {**failure_of(error), **told}, step=step.name)
            await asyncio.sleep(delay)
            await self.run.pause_point()

    async def _try(self, step: Step, outputs: Outputs) -> Kept:
        deadline = Deadline(step.timeout_seconds)
        live = LiveStep(self.run, step.name, (self.deadline, deadline), self.notes)
        context = Context(
            self.run.id,
            self.given,
            self.run.attempt,
            live,
            step.name,
            restored=self.notes.states.get(step.name),
            memory=self.memory,
        )
        try:
            async with deadline:
                output = await self._output(step, context, outputs, deadline)
        except (asyncio.CancelledError, TimeoutError):
            _raise_timeout(step, deadline)
            raise
        finally:
            live.end()
        # It may have been deaf to its cancellation.
        _raise_timeout(step, deadline)
        return Kept.of(step.name, output)

    async def _output(self, step: Step, context: Context, outputs: Outputs, deadline: Deadline) -> Any:
        call = _given(step, context, outputs)
        deadlines = [each for each in (self.deadline, deadline) if each.seconds is not None]
        # A task more, where somebody has to wait for it no longer than so long.
        return await (in_time(step.name, call, deadlines) if deadlines else call)

    def _done(self, step: Step, kept: Kept) -> _Done:
        size = len(kept.packed)
        return _Done(step.name, {step.name: kept.output}, kept.output, shown(step.name, kept.output, size), size)

    async def _skipped(self, step: Step, why: dict[str, Any]) -> None:
        await self.run.emit("step.skipped", why, step=step.name)

    async def _failed(self, step: Step, started: float, failure: dict[str, Any]) -> None:
        await self.run.emit("step.failed", {**failure, **_duration(started)}, step=step.name)

    async def _tell_unbegun(self, nodes: tuple[Node, ...], group: _Group | None) -> None:
        blamed = group.to_blame if group is not None else None
        if blamed is not None:
            for step in [step for node in nodes for step in node.steps]:
                await self._skipped(step, _cancelled_for(blamed))


async def _given(step: Step, context: Context, outputs: Outputs) -> Any:
    if step.process:
        return await called_in_process(step, context, outputs)
    call = prepared(step.run, step.parameters, context, step.options, outputs)
    return await called(step.name, step.run, call)


def _raise_timeout(step: Step, deadline: Deadline) -> None:
    if deadline.expired and step.timeout_seconds is not None:
        raise StepTimeoutError(step.name, step.timeout_seconds) from None


def _may_retry(step: Step, error: Exception) -> bool:
    if isinstance(error, StepProcessError):
        return error.may_retry
    return isinstance(error, step.retry_on) and not isinstance(error, _FOR_GOOD)


def _cancelled_for(step: str) -> dict[str, Any]:
    return {"reason": "sibling_failed", "message": f"Step {step!r} of its group failed.", "sibling": step}


def _duration(started: float) -> dict[str, float]:
    return {"duration_seconds": round(time.monotonic() - started, 6)}
