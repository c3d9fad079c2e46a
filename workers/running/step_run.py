"""One step, run: tried as often and as long as it may be, kept, and told."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tailrace.bus.errors import (
    AppendRefusedError,
    BusClosedError,
    BusUnavailableError,
    EventTooLargeError,
    LeaseLostError,
    PublishFailedError,
)
from tailrace.bus.model.event import shortened
from tailrace.bus.model.retry import Backoff
from tailrace.bus.ownership.execution import failure_of
from tailrace.bus.ownership.left_calls import LeftCalls
from tailrace.workers.definition.context import Context, end_calls, flush_token
from tailrace.workers.definition.deadline import StepDeadline
from tailrace.workers.definition.group import Done, NodeGroup
from tailrace.workers.definition.outputs import Outputs
from tailrace.workers.definition.pipeline import Step
from tailrace.workers.definition.step_call import called, prepared
from tailrace.workers.errors import (
    OutputInvalidError,
    StepCancelledError,
    StepInputInvalidError,
    StepProcessError,
    StepStuckError,
    StepTimeoutError,
)
from tailrace.workers.running.in_time import in_time
from tailrace.workers.running.live_step import LiveStep, Notes
from tailrace.workers.running.process_step import called_in_process
from tailrace.workers.running.run import PipelineExecution
from tailrace.workers.running.step_output import StepOutput, shown

# How long a try that does not stop is waited for before the next: two at once would act twice.
LEFT_SECONDS: Final = 60.0
# A failed step could not be told any more, or the step is not to blame.
_NOT_THE_STEP: Final = (AppendRefusedError, BusClosedError, BusUnavailableError, LeaseLostError, PublishFailedError)
# Trying again could only end the same way.
_FOR_GOOD: Final = (StepInputInvalidError, OutputInvalidError)


@dataclass(frozen=True, slots=True)
class StepRun:
    """What all steps of an attempt have in common. ``deadline`` is the pipeline's, ``restored`` the outputs kept."""

    run: PipelineExecution
    input_value: Any
    deadline: StepDeadline
    restored: dict[str, Any]
    notes: Notes
    memory: dict[str, Any] = field(default_factory=dict)

    async def done(self, step: Step, outputs: Outputs, group: NodeGroup | None) -> Done:
        started = time.monotonic()
        begun = False
        try:
            await self.run.pause_point()
            if step.name in self.restored:
                kept = StepOutput.of(step.name, self.restored[step.name])
                await self.skipped(step, {"reason": "checkpoint"})
                return _done(step, kept)
            if step.when is not None and not step.when(self.input_value, outputs):
                await self.skipped(step, {"reason": "condition"})
                return Done(step.name, {step.name: None}, skipped=True)
            await self.run.emit("step.started", step=step.name)
            begun = True
            kept = await self._tried(step, outputs)
            await self.run.keep_output(step.name, kept.packed)
        except _NOT_THE_STEP:
            raise
        except asyncio.CancelledError:
            if group is not None and (told := group.told) is not None:
                await (self._failed(step, started, told) if begun else self.skipped(step, told))
            raise
        except Exception as error:
            await self._failed(step, started, failure_of(error))
            if group is not None:
                group.fail(step.name)
            raise
        done = _done(step, kept)
        await self._tell("step.completed", {**done.shown, **_duration(started)}, step)
        return done

    async def _tried(self, step: Step, outputs: Outputs) -> StepOutput:
        backoff = Backoff(step.retry_delay_seconds, step.max_retry_delay_seconds)
        tried = 0
        left = LeftCalls()
        while True:
            try:
                return await self._try(step, outputs, left)
            except _NOT_THE_STEP:
                raise
            except Exception as error:
                tried += 1
                if tried > step.retries or not _may_retry(step, error):
                    raise
                delay = backoff.delay_seconds(tried, random.random)
                told = {"retry": tried, "retries": step.retries, "delay_seconds": round(delay, 3)}
                await self._tell("step.retrying", {**failure_of(error), **told}, step)
                await asyncio.sleep(delay)
                if not await left.ended(LEFT_SECONDS):
                    raise StepStuckError(step.name, error) from error
            await self.run.pause_point()

    async def _try(self, step: Step, outputs: Outputs, left: LeftCalls) -> StepOutput:
        deadline = StepDeadline(step.timeout_seconds)
        live = LiveStep(self.run, step.name, (self.deadline, deadline), self.notes)
        context = Context(
            self.run.id,
            self.input_value,
            self.run.attempt,
            live,
            step.name,
            restored=self.notes.states.get(step.name),
            memory=self.memory,
        )
        try:
            async with deadline:
                output = await self._output(step, context, outputs, deadline, left)
                await flush_token(context)
        except (asyncio.CancelledError, TimeoutError) as error:
            _raise_timeout(step, deadline)
            if isinstance(error, asyncio.CancelledError) and not _is_being_cancelled():
                raise StepCancelledError(step.name) from error
            raise
        finally:
            live.end()
            end_calls(context)
        # It may have been deaf to its cancellation.
        _raise_timeout(step, deadline)
        return StepOutput.of(step.name, output)

    async def _output(
        self, step: Step, context: Context, outputs: Outputs, deadline: StepDeadline, left: LeftCalls
    ) -> Any:
        def leave(call: asyncio.Future[Any]) -> None:
            left.add(call)
            self.run.left_calls.add(call)

        call = _call_input(step, context, outputs, leave)
        return await in_time(step.name, call, (self.deadline, deadline), leave)

    async def skipped(self, step: Step, why: dict[str, Any]) -> None:
        await self.run.emit("step.skipped", why, step=step.name)

    async def _failed(self, step: Step, started: float, failure: dict[str, Any]) -> None:
        await self._tell("step.failed", {**failure, **_duration(started)}, step)

    async def _tell(self, event_type: str, data: dict[str, Any], step: Step) -> None:
        try:
            await self.run.emit(event_type, data, step=step.name)
        except EventTooLargeError:
            # Whatever an error or an output says must not cost the step its outcome.
            await self.run.emit(event_type, shortened(data, "reason", "retry", "retries"), step=step.name)


def _done(step: Step, kept: StepOutput) -> Done:
    size = len(kept.packed)
    return Done(step.name, {step.name: kept.output}, kept.output, shown(step.name, kept.output, size), size)


async def _call_input(
    step: Step, context: Context, outputs: Outputs, on_left: Callable[[asyncio.Future[Any]], None]
) -> Any:
    if step.process:
        return await called_in_process(step, context, outputs)
    call = prepared(step.run, step.parameters, context, step.options, outputs)
    return await called(step.name, step.run, call, on_left)


def _raise_timeout(step: Step, deadline: StepDeadline) -> None:
    if deadline.expired and step.timeout_seconds is not None:
        raise StepTimeoutError(step.name, step.timeout_seconds) from None


def _is_being_cancelled() -> bool:
    """Whether somebody cancelled us; what a step awaits may raise the same error when only that was cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _may_retry(step: Step, error: Exception) -> bool:
    if isinstance(error, StepProcessError):
        return error.may_retry
    return isinstance(error, step.retry_on) and not isinstance(error, _FOR_GOOD)


def _duration(started: float) -> dict[str, float]:
    return {"duration_seconds": round(time.monotonic() - started, 6)}
