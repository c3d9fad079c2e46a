"""One worker's attempt at one execution: from the job to the ending."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from bus.bus import Bus
from bus.errors import (
    BusError,
    ExecutionClosedError,
    ExecutionUnknownError,
    FenceStaleError,
    InvalidInputError,
    LeaseHeldError,
    LeaseLostError,
    ReplyError,
)
from bus.event import CANCELLED
from bus.execution import Execution
from bus.queue import Job
from bus.submission import Submission
from workers.errors import InputInvalidError, WorkerLostError
from workers.registry import Registry
from workers.sequence import checked_input, run_pipeline

logger = logging.getLogger(__name__)

ENDING_SECONDS: Final = 10.0


class Attempt:
    """Runs in a task of its own from the beginning; ``stop`` makes it end the execution early."""

    def __init__(self, bus: Bus, registry: Registry, job: Job, consumer: str) -> None:
        self.job = job
        self._bus = bus
        self._registry = registry
        self._consumer = consumer
        self._stopped = False
        self._task = asyncio.create_task(self._run(), name=f"attempt:{job.execution_id}")

    def on_end(self, call: Callable[[asyncio.Task[None]], None]) -> None:
        self._task.add_done_callback(call)

    def stop(self) -> asyncio.Task[None]:
        """End the execution in ``execution.cancelled``, with the reason that the worker stops."""
        # Once: a second cancellation would interrupt the ending that the first one asked for.
        if not self._stopped:
            self._stopped = True
            self._task.cancel("the worker stops")
        return self._task

    async def _run(self) -> None:
        over = await self._tried(self.job.execution_id)
        try:
            if over:
                await self._bus.jobs.queues.acknowledge(self.job)
            elif self._stopped:
                await self._bus.jobs.queues.hand_back(self.job, self._consumer)
        except BusError as error:
            # It comes again to whoever claims, who finds the execution as it is.
            logger.debug("execution %s: job not acknowledged: %s", self.job.execution_id, error)

    async def _tried(self, execution_id: str) -> bool:
        """Attempt it; whether nothing is left to be done for the job then, by anybody."""
        try:
            await self._attempt(execution_id)
        except asyncio.CancelledError:
            # A step may raise this too, of some task of its own that was cancelled.
            if not self._stopped and (task := asyncio.current_task()) is not None and task.cancelling():
                raise
        except ExecutionUnknownError as error:
            self._bus.counters.add("jobs_without_execution")
            logger.warning("job dropped: %s", error)
            return True
        except (LeaseHeldError, LeaseLostError, FenceStaleError) as error:
            # Not ours; it stays in the queue until its execution has ended, should whoever runs it be lost as well.
            self._bus.counters.add("jobs_held")
            logger.info("%s", error)
        except ExecutionClosedError as error:
            logger.debug("%s", error)
        except BusError as error:
            if _is_beyond_repair(error):
                self._bus.counters.add("jobs_unusable")
                logger.error("execution %s: job dropped, its keys hold something else: %s", execution_id, error)  # noqa: TRY400 - no trace helps
                return True
            logger.warning("execution %s: %s", execution_id, error)
        except Exception as error:
            # A step may raise anything; the log of its execution says so.
            logger.info("execution %s failed: %s: %s", execution_id, type(error).__name__, error)
            logger.debug("execution %s", execution_id, exc_info=error)
        return await self._is_over(execution_id)

    async def _attempt(self, execution_id: str) -> None:
        submission = await self._submission(execution_id)
        name = submission.pipeline if isinstance(submission, Submission) else None
        async with self._bus.execution(execution_id, pipeline=name) as execution:
            try:
                execution.result = await self._result(execution, submission)
            except asyncio.CancelledError:
                if self._stopped:
                    await _end_stopped(execution)
                raise

    async def _submission(self, execution_id: str) -> Submission | InputInvalidError:
        try:
            submission = await self._bus.jobs.submission_of(execution_id)
        except InvalidInputError as error:
            return InputInvalidError(error.detail)
        if submission is None:
            raise ExecutionUnknownError(execution_id)
        return submission

    async def _result(self, execution: Execution, submission: Submission | InputInvalidError) -> Any:
        if isinstance(submission, InputInvalidError):
            raise submission
        pipeline = self._registry.get(submission.pipeline)
        if execution.attempt > pipeline.max_attempts:
            raise WorkerLostError(pipeline.name, execution.attempt - 1)
        given = checked_input(pipeline.input_model, submission.input)
        return await run_pipeline(self._bus, execution, pipeline, given)

    async def _is_over(self, execution_id: str) -> bool:
        """Ask the state, not our own memory: an ending that was not appended is no ending."""
        try:
            state = await self._bus.state(execution_id)
        except BusError as error:
            logger.debug("execution %s: %s", execution_id, error)
            return False
        return state is None or state.ended


async def _end_stopped(execution: Execution) -> None:
    data = {"reason": "worker_stopped", "message": "The worker that ran it was stopped before it was done."}
    async with asyncio.timeout(ENDING_SECONDS):
        await execution.append(CANCELLED, data)


def _is_beyond_repair(error: BaseException | None) -> bool:
    """Somebody put something else where a stream or a hash belongs: trying again would only meet it again."""
    while error is not None:
        if isinstance(error, ReplyError) and error.code == "WRONGTYPE":
            return True
        error = error.__cause__
    return False
