"""One worker's attempt at one execution: from the job to the ending, or to the next attempt."""

from __future__ import annotations

import asyncio
import logging
import random
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tailrace.bus.bus import Bus
from tailrace.bus.errors import (
    AppendRefusedError,
    BusClosedError,
    BusError,
    BusUnavailableError,
    ExecutionClosedError,
    ExecutionUnknownError,
    FenceStaleError,
    InvalidInputError,
    LeaseHeldError,
    LeaseLostError,
    PublishFailedError,
    ReplyError,
)
from tailrace.bus.jobs.queue import Job, UnusableJob
from tailrace.bus.model.event import CANCELLED
from tailrace.bus.model.submission import Submission
from tailrace.bus.model.trace import meta_of
from tailrace.bus.ownership.execution import Execution, failure_of
from tailrace.bus.redis.commands import server_ms
from tailrace.workers.errors import InputInvalidError, PlanningError, WorkerError
from tailrace.workers.running.runner import run_pipeline
from tailrace.workers.running.step_run import LEFT_SECONDS
from tailrace.workers.worker.plan import AttemptPlan, plan_of
from tailrace.workers.worker.registry import Registry

logger = logging.getLogger(__name__)

ENDING_SECONDS: Final = 10.0
# How long a stop lets an execution be begun, only to hand it back: interrupted, it would look like a worker's death.
BEGINNING_SECONDS: Final = 5.0
_STOPPED: Final = {"reason": "worker_stopped", "message": "The worker that ran it was stopped before it was done."}
# The pipeline is not to blame, and we cannot append any more that it is tried again.
_NOT_THE_PIPELINE: Final = (
    AppendRefusedError,
    BusClosedError,
    BusUnavailableError,
    LeaseLostError,
    PublishFailedError,
)


class Attempt:
    """Runs in a task of its own from the beginning; ``stop`` makes it leave the execution early."""

    def __init__(self, bus: Bus, registry: Registry, job: Job, consumer: str) -> None:
        self.job = job
        self._bus = bus
        self._registry = registry
        self._consumer = consumer
        self._submission: Submission | None = None
        self._plan: AttemptPlan | None = None
        self._execution: Execution | None = None
        self._stopped = False
        self._put_off = False
        # Until the end of the time that it has from its submission on.
        self._left_seconds: float | None = None
        # Set when the attempt is not to count.
        self._uncounted = False
        # Set once the execution is ours and its beginning is in the log.
        self._begun = False
        self._too_late: asyncio.TimerHandle | None = None
        # Set when the execution was left to a next attempt.
        self._again_after_seconds: float | None = None
        self._task = asyncio.create_task(self._run(), name=f"attempt:{job.execution_id}")

    def on_end(self, call: Callable[[asyncio.Task[None]], None]) -> None:
        self._task.add_done_callback(call)

    @property
    def abandoned(self) -> bool:
        """Whether the execution has ended without its step, which does not stop."""
        execution = self._execution
        if execution is None or execution.uncertain:
            # One that could not renew its lease is handed on by itself, when Redis answers again.
            return False
        return execution.abandoned.is_set() and not self._task.done()

    def stop(self) -> asyncio.Task[None]:
        """Leave the execution to another worker; one that must not be repeated ends in ``execution.cancelled``."""
        # Once: a second cancellation would interrupt the ending that the first one asked for.
        if not self._stopped:
            self._stopped = True
            if self._begun:
                self._task.cancel("the worker stops")
            else:
                loop = asyncio.get_running_loop()
                self._too_late = loop.call_later(BEGINNING_SECONDS, self._task.cancel, "the worker stops")
        return self._task

    async def give_up(self) -> None:
        """Say what becomes of an execution whose step does not stop, though this process is about to end.

        It is not handed back, because another could begin at once: a healer does that when this process is gone.
        Raises BusError.
        """
        execution, plan = self._execution, self._plan
        if execution is None or plan is None:
            return
        if plan.may_be_repeated:
            await self._uncount(execution)
        else:
            await execution.append(CANCELLED, {**_STOPPED, "forced": True})

    async def keep_slot(self) -> None:
        """Keep the slot of its concurrency key."""
        if self._submission is not None and self._submission.concurrency_key is not None:
            await self._bus.jobs.concurrency.keep(self._submission.tenant, self._submission.concurrency_key)

    async def settle(self) -> None:
        """Be done with the job if there is nothing left to do for it, by anybody. Raises BusUnavailableError."""
        jobs, execution_id = self._bus.jobs, self.job.execution_id
        if self._put_off:
            await jobs.queues.acknowledge(self.job)
            return
        # Ask the state, not our own memory: an ending that was not appended is no ending.
        state = await self._bus.state(execution_id)
        if state is None or state.ended:
            if state is not None:
                retried = self._plan is not None and self._plan.pipeline.retries > 0
                await self._bus.dead_letters.bury(state, retried=retried)
            await jobs.queues.acknowledge(self.job)
        elif self._again_after_seconds is not None and state.status in {"queued", "paused"}:
            await jobs.requeue(execution_id, delay_seconds=self._again_after_seconds)
            await jobs.queues.acknowledge(self.job)
        elif self._stopped:
            await jobs.queues.hand_back(self.job, self._consumer)

    def _asked_to_stop(self) -> bool:
        return self._stopped

    async def _run(self) -> None:
        try:
            if await self._tried(self.job.execution_id):
                await self.settle()
            else:
                await self._bus.jobs.queues.acknowledge(self.job)
        except BusError as error:
            # It is claimed again, and the execution is found as it is.
            logger.debug("execution %s: job not acknowledged: %s", self.job.execution_id, error)

    async def _tried(self, execution_id: str) -> bool:
        """Attempt it; False when no worker can ever do anything with this job. Raises BusUnavailableError."""
        try:
            await self._attempt(execution_id)
        except asyncio.CancelledError:
            # An execution that was asked to cancel raises this too, and then we are not cancelled.
            if not self._stopped and (task := asyncio.current_task()) is not None and task.cancelling():
                raise
        except ExecutionUnknownError as error:
            self._bus.counters.add("jobs_without_execution")
            logger.warning("job dropped: %s", error)
            await self._bus.dead_letters.add_unknown(self.job.queue, execution_id)
            return False
        except (LeaseHeldError, LeaseLostError, FenceStaleError) as error:
            # Not ours; it stays in the queue until its execution has ended, should its owner be lost as well.
            self._bus.counters.add("jobs_held")
            logger.info("%s", error)
        except ExecutionClosedError as error:
            logger.debug("%s", error)
        except BusError as error:
            if _is_beyond_repair(error):
                self._bus.counters.add("jobs_unusable")
                logger.error("execution %s: job dropped, its keys hold another type of value: %s", execution_id, error)  # noqa: TRY400 - no trace helps
                defect = f"its keys hold another type of value: {error}"
                await self._bus.dead_letters.add_unusable(
                    UnusableJob(self.job.queue, self.job.entry_id, defect), execution_id
                )
                return False
            logger.warning("execution %s: %s", execution_id, error)
        except Exception as error:
            # A step may raise anything; the log of its execution says so.
            logger.info("execution %s failed: %s: %s", execution_id, type(error).__name__, error)
            logger.debug("execution %s", execution_id, exc_info=error)
        return True

    async def _attempt(self, execution_id: str) -> None:
        plan = await self._planned(execution_id)
        if plan is None or self._asked_to_stop():
            return
        name = None if self._submission is None else self._submission.pipeline
        most = plan.max_attempts if isinstance(plan, AttemptPlan) else None
        meta = None if self._submission is None else meta_of(self._submission.trace)
        async with self._bus.execution(execution_id, pipeline=name, max_attempts=most, meta=meta) as execution:
            self._execution = execution
            self._begun = True
            if self._too_late is not None:
                self._too_late.cancel()
            if isinstance(plan, WorkerError):
                raise plan
            plan.check_attempt(execution.attempt)
            if self._left_seconds is not None and self._submission is not None:
                execution.end_in(self._left_seconds, self._submission.timeout_seconds or 0.0)
            if self._asked_to_stop():
                await self._leave_unbegun(execution)
                return
            try:
                execution.result = await run_pipeline(self._bus, execution, plan.pipeline, plan.input_value)
            except asyncio.CancelledError:
                if execution.uncertain:
                    await self._leave_uncertain(execution)
                elif self._stopped:
                    await self._leave_early(execution, plan)
                raise
            except _NOT_THE_PIPELINE:
                raise
            except Exception as error:
                delay_seconds = plan.retry_delay_seconds(error, execution.attempt, random.random)
                if delay_seconds is None:
                    raise
                await self._leave_failed(execution, error, delay_seconds)

    async def _planned(self, execution_id: str) -> AttemptPlan | WorkerError | None:
        """What is wrong with it is for its execution's log to say, so it is given, not raised. None when too early."""
        jobs = self._bus.jobs
        try:
            submission, history = await asyncio.gather(jobs.submission_of(execution_id), jobs.history_of(execution_id))
        except InvalidInputError as error:
            return InputInvalidError(error.detail)
        if submission is None:
            raise ExecutionUnknownError(execution_id)
        self._submission = submission
        if await jobs.put_off(execution_id, history.not_before_ms):
            # A second job of it came first.
            self._put_off = True
            return None
        try:
            self._plan = plan = plan_of(self._registry, submission, failures=history.failures)
        except WorkerError as error:
            return error
        except (Exception, SystemExit) as error:
            # A validator, say: whatever it raises must end the execution, or it waits for ever.
            logger.warning("execution %s: its pipeline raised before its first step", execution_id, exc_info=error)
            return PlanningError(submission.pipeline, error, _place_of(error))
        if submission.deadline_ms is not None or submission.start_within_seconds is not None:
            self._left_seconds = await self._look_at_clock(submission)
        if history.attempts >= plan.max_attempts:
            # If the last of them was lost, that is its end: nothing is begun only to say so.
            await self._bus.healer.heal(execution_id)
        return plan

    async def _look_at_clock(self, submission: Submission) -> float | None:
        """Seconds that are left of its time; None for no limit. One that has waited for too long is ended."""
        state = await self._bus.state(submission.execution_id)
        now_ms = await server_ms(self._bus.commands)
        if state is not None and state.waits_until_ms is not None and state.waits_until_ms <= now_ms:
            await self._bus.healer.heal(submission.execution_id)
        return None if submission.deadline_ms is None else (submission.deadline_ms - now_ms) / 1000

    async def _leave_failed(self, execution: Execution, error: Exception, delay_seconds: float) -> None:
        if not await execution.left_calls.ended(LEFT_SECONDS):
            logger.error("execution %s is not tried again: one of its steps is still running", execution.id)
            raise error
        if await self._bus.jobs.submission_of(execution.id) is None:
            # Redis has lost what was to be done: there is nothing that a next attempt could begin with.
            raise error
        failure = failure_of(error)
        logger.info("execution %s failed; retrying in %.1f s: %s", execution.id, delay_seconds, error)
        await self._bus.jobs.count_failure(execution.id, fence=execution.fence)
        self._again_after_seconds = delay_seconds
        await execution.hand_back(
            failure["reason"],
            message=failure["message"],
            exception=failure["exception"],
            delay_seconds=round(delay_seconds, 3),
        )

    async def _leave_uncertain(self, execution: Execution) -> None:
        """Leave it to a next attempt when Redis answers again: that it could not be reached is not this one's fault."""
        # As long as anything of it acts, the heartbeat may have to end this process.
        await execution.left_calls.ended()
        execution.stand_down()
        await self._bus.available()
        message = "Its worker could not renew the lease and stopped it before another could take over."
        await self._repeat(execution, "lease_uncertain", message)

    async def _leave_early(self, execution: Execution, plan: AttemptPlan) -> None:
        await execution.left_calls.ended()
        execution.stand_down()
        async with asyncio.timeout(ENDING_SECONDS):
            if plan.may_be_repeated:
                await self._repeat(execution, **_STOPPED)
            else:
                await execution.append(CANCELLED, _STOPPED)

    async def _leave_unbegun(self, execution: Execution) -> None:
        """No step has begun, so that also what must not be repeated can be begun by another worker."""
        async with asyncio.timeout(ENDING_SECONDS):
            message = "The worker that took it was stopped before the first step."
            await self._repeat(execution, "worker_stopped", message)

    async def _repeat(self, execution: Execution, reason: str, message: str) -> None:
        """Leave it for the same attempt once more: this one was not its fault."""
        await self._uncount(execution)
        self._again_after_seconds = 0.0
        await execution.hand_back(reason, message=message, attempt=execution.attempt)

    async def _uncount(self, execution: Execution) -> None:
        if not self._uncounted:
            await self._bus.jobs.uncount_attempt(execution.id, fence=execution.fence)
            self._uncounted = True


def _place_of(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} ({frame.name})"


def _is_beyond_repair(error: BaseException | None) -> bool:
    """Somebody put something else where a stream or a hash belongs: trying again would only meet it again."""
    while error is not None:
        if isinstance(error, ReplyError) and error.code == "WRONGTYPE":
            return True
        error = error.__cause__
    return False
