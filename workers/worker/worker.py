"""A worker: takes jobs from its queues and attempts them, a bounded number at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import uuid
from collections.abc import Callable
from typing import Final

from tailrace.bus.bus import Bus
from tailrace.bus.errors import BusError, BusUnavailableError, ReplyError
from tailrace.bus.jobs.queue import Job, Taken, UnusableJob
from tailrace.bus.model.retry import Backoff
from tailrace.workers.settings import WorkerSettings
from tailrace.workers.worker.attempt import ENDING_SECONDS, Attempt
from tailrace.workers.worker.intake import JobIntake
from tailrace.workers.worker.registry import Registry

logger = logging.getLogger(__name__)

# How long a take waits for a lost connection: as long as the last act of a stop may have to wait.
LINE_WAIT_SECONDS: Final = 1.0
# After a cancellation: the ending, and a moment for the step to notice.
STOPPING_SECONDS: Final = ENDING_SECONDS + 10.0
# How often it is looked whether an execution has ended without its step.
ABANDONED_SECONDS: Final = 0.5


class Worker:
    """``run`` until ``stop``. Uses the bus, which stays its caller's to close, after ``run`` has returned."""

    def __init__(self, bus: Bus, registry: Registry, settings: WorkerSettings | None = None) -> None:
        self.settings = settings or WorkerSettings()
        # Never shared, whatever the operator calls it: one of two that use a name would hide that the other died.
        self.name = f"{self.settings.worker_name or bus.name}-{uuid.uuid4().hex[:6]}"
        self._bus = bus
        self._registry = registry
        self._attempts: dict[str, Attempt] = {}
        # Second jobs of what is being attempted: they have their turn when it is over.
        self._next: dict[str, Job] = {}
        # Called in the heartbeat's thread, with a sentence, when code that must not go on cannot be stopped: a process
        # of workers ends there.
        self.on_unstoppable: Callable[[str], None] | None = None
        self._failures = 0
        self._backoff = Backoff()
        self._stopping = asyncio.Event()
        self._hurried = asyncio.Event()
        # A slot became free, or we are stopping.
        self._news = asyncio.Event()

    @property
    def running(self) -> list[str]:
        """Ids of the executions that are being attempted."""
        return list(self._attempts)

    def stop(self) -> None:
        """Take no more, let what runs end within ``drain_seconds``; called again: do not wait for it.

        What has not ended by then is left to other workers; what must not be repeated is cancelled. May be called
        from a signal handler of the loop. ``run`` returns when all is done.
        """
        if self._stopping.is_set():
            self._hurried.set()
        self._stopping.set()
        self._news.set()

    async def run(self) -> None:
        """Raises BusUnavailableError when Redis cannot be reached at start; later it is waited for."""
        line = await self._bus.open_line("jobs", wait_seconds=LINE_WAIT_SECONDS)
        self._bus.heartbeat.on_unstoppable = self.on_unstoppable
        try:
            intake = JobIntake(self._bus, self.settings.queues, self.name, line)
            await intake.open()
            async with self._bus.healer.running():
                await self._work(intake)
            with contextlib.suppress(BusUnavailableError):
                await intake.leave()
        finally:
            await line.aclose()

    async def _work(self, intake: JobIntake) -> None:
        taking = asyncio.create_task(self._take_jobs(intake), name="worker:take")
        keeping = [
            asyncio.create_task(self._keep_jobs(), name="worker:keep"),
            asyncio.create_task(self._forget_abandoned(), name="worker:abandoned"),
        ]
        try:
            await self._until_stopped(taking)
            await self._drain()
        finally:
            self._stopping.set()
            self._news.set()
            await self._stop_attempts()
            for task in keeping:
                task.cancel()
            # A take under way is not cancelled, because Redis may just be giving us a job: it ends by itself.
            await asyncio.wait([taking, *keeping])
        await taking
        with contextlib.suppress(BusUnavailableError):
            for job in self._next.values():
                await self._bus.jobs.queues.hand_back(job, self.name)

    async def _until_stopped(self, taking: asyncio.Task[None]) -> None:
        stopping = asyncio.create_task(self._stopping.wait(), name="worker:stop")
        try:
            await asyncio.wait([stopping, taking], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()

    async def _take_jobs(self, intake: JobIntake) -> None:
        while not self._stopping.is_set():
            free = self.settings.concurrency - len(self._attempts)
            if free <= 0:
                self._news.clear()
                await self._news.wait()
                continue
            try:
                for job in await intake.take(free):
                    await self._begin(job)
            except BusUnavailableError as error:
                await self._wait_for_redis(error, intake)
            else:
                self._welcome_redis()

    async def _begin(self, job: Taken) -> None:
        if isinstance(job, UnusableJob):
            self._bus.counters.add("jobs_unusable")
            logger.warning("queue %s: job %s dropped: %s", job.queue, job.entry_id, job.defect)
            await self._bus.dead_letters.add_unusable(job)
            await self._bus.jobs.queues.acknowledge(job)
        elif self._stopping.is_set():
            await self._bus.jobs.queues.hand_back(job, self.name)
        elif job.execution_id in self._attempts:
            # Its execution may be about to be left to a next attempt, which is this job's.
            self._bus.counters.add("jobs_held")
            self._next[job.execution_id] = job
        else:
            self._bus.counters.add("jobs_taken")
            self._attempt(job)

    def _attempt(self, job: Job) -> None:
        attempt = Attempt(self._bus, self._registry, job, self.name)
        self._attempts[job.execution_id] = attempt
        attempt.on_end(lambda task: self._ended(attempt, task))

    def _ended(self, attempt: Attempt, task: asyncio.Task[None]) -> None:
        self._release(attempt)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("execution %s: the attempt failed unexpectedly", attempt.job.execution_id, exc_info=error)

    def _release(self, attempt: Attempt) -> None:
        """Give its slot to another."""
        execution_id = attempt.job.execution_id
        if self._attempts.get(execution_id) is not attempt:
            return
        del self._attempts[execution_id]
        if not self._stopping.is_set() and (following := self._next.pop(execution_id, None)) is not None:
            self._attempt(following)
        self._news.set()

    async def _drain(self) -> None:
        """Wait for what runs, for a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_seconds):
                while self._attempts and not self._hurried.is_set():
                    self._news.clear()
                    await self._news.wait()

    async def _stop_attempts(self) -> None:
        attempts = list(self._attempts.values())
        tasks = {attempt.stop(): attempt for attempt in attempts}
        if not tasks:
            return
        _, deaf = await asyncio.wait(tasks, timeout=STOPPING_SECONDS)
        for task in deaf:
            # No other worker begins before this process is gone.
            self._bus.counters.add("attempts_deaf")
            logger.error(
                "execution %s does not stop; it is handed on when this process has ended", tasks[task].job.execution_id
            )
            with contextlib.suppress(BusError):
                await tasks[task].give_up()

    async def _keep_jobs(self) -> None:
        """Tell the other workers that we live, so that they claim nothing that we work on."""
        while True:
            await asyncio.sleep(self._bus.settings.lease_seconds / 3)
            attempts = list(self._attempts.values())
            jobs = [*(attempt.job for attempt in attempts), *self._next.values()]
            try:
                await self._bus.jobs.queues.keep(jobs, self.name)
                for attempt in attempts:
                    await attempt.keep_slot()
            except BusUnavailableError as error:
                logger.debug("jobs not kept: %s", error)

    async def _forget_abandoned(self) -> None:
        """A step that cannot be stopped must not keep others from being run for ever."""
        while True:
            await asyncio.sleep(ABANDONED_SECONDS)
            for attempt in [each for each in self._attempts.values() if each.abandoned]:
                try:
                    await attempt.settle()
                except BusUnavailableError as error:
                    logger.debug("execution %s: job not acknowledged: %s", attempt.job.execution_id, error)
                self._bus.counters.add("attempts_abandoned")
                self._release(attempt)

    async def _wait_for_redis(self, error: BusUnavailableError, intake: JobIntake) -> None:
        self._failures += 1
        if self._failures == 1:
            self._bus.counters.add("worker_outages")
            logger.warning("cannot take jobs: %s; retrying", error)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._backoff.delay_seconds(self._failures, random.random)):
                await self._stopping.wait()
        if isinstance(error, ReplyError) and error.code == "NOGROUP":
            # The queue was deleted, or all of Redis was flushed.
            with contextlib.suppress(BusUnavailableError):
                await intake.open()

    def _welcome_redis(self) -> None:
        if self._failures:
            logger.info("taking jobs again, after %d failures", self._failures)
            self._failures = 0
