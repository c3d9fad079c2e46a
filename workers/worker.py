"""A worker: takes jobs from its queues and attempts them, a bounded number at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import uuid
from typing import Final

from bus.bus import Bus
from bus.errors import BusUnavailableError, ReplyError
from bus.line import Commands
from bus.queue import Job, Taken, UnusableJob
from bus.retry import Backoff
from workers.attempt import ENDING_SECONDS, Attempt
from workers.registry import Registry
from workers.settings import WorkerSettings

logger = logging.getLogger(__name__)

# How long a take waits in Redis: as long as the last act of a stop, or a job of a less urgent queue, may have to wait.
BLOCK_MS: Final = 200
# How long a take waits for a lost connection, likewise.
LINE_WAIT_SECONDS: Final = 1.0
# How often jobs of lost workers are looked for.
CLAIM_SECONDS: Final = 1.0
# How many stretches of the held jobs one search looks at.
CLAIM_STRETCHES: Final = 20
# After a cancellation: the ending, and a moment for the step to notice.
STOPPING_SECONDS: Final = ENDING_SECONDS + 10.0


class Worker:
    """``run`` until ``stop``. Uses the bus, which stays its caller's to close, after ``run`` has returned."""

    def __init__(self, bus: Bus, registry: Registry, settings: WorkerSettings | None = None) -> None:
        self.settings = settings or WorkerSettings()
        # Never shared, whatever the operator calls it: one of two that use a name would hide that the other died.
        self.name = f"{self.settings.worker_name or bus.name}-{uuid.uuid4().hex[:6]}"
        self._bus = bus
        self._registry = registry
        self._attempts: dict[str, Attempt] = {}
        self._idle_seconds = bus.settings.lease_seconds
        self._next_claim = 0.0
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

        May be called from a signal handler of the loop. ``run`` returns when all is done.
        """
        if self._stopping.is_set():
            self._hurried.set()
        self._stopping.set()
        self._news.set()

    async def run(self) -> None:
        """Raises BusUnavailableError when Redis cannot be reached at start; later it is waited for."""
        line = await self._bus.open_line("jobs", wait_seconds=LINE_WAIT_SECONDS)
        try:
            await self._open_queues()
            taking = asyncio.create_task(self._take_jobs(line), name="worker:take")
            keeping = asyncio.create_task(self._keep_jobs(), name="worker:keep")
            try:
                await self._until_stopped(taking)
                await self._drain()
            finally:
                self._stopping.set()
                self._news.set()
                await self._stop_attempts()
                keeping.cancel()
                # A take under way is not cancelled, because Redis may just be giving us a job: it ends by itself.
                await asyncio.wait([taking, keeping])
            await taking
            await self._leave_queues()
        finally:
            await line.aclose()

    async def _until_stopped(self, taking: asyncio.Task[None]) -> None:
        stopping = asyncio.create_task(self._stopping.wait(), name="worker:stop")
        try:
            await asyncio.wait([stopping, taking], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()

    async def _take_jobs(self, line: Commands) -> None:
        while not self._stopping.is_set():
            free = self.settings.concurrency - len(self._attempts)
            if free == 0:
                self._news.clear()
                await self._news.wait()
                continue
            try:
                taken = await self._claim(free) or await self._take(free, line)
                for job in taken:
                    await self._begin(job)
            except BusUnavailableError as error:
                await self._wait_for_redis(error)
            else:
                self._welcome_redis()

    async def _claim(self, free: int) -> list[Taken]:
        """What lost workers held. Looked for first: it has waited longest."""
        now = asyncio.get_running_loop().time()
        if now < self._next_claim:
            return []
        self._next_claim = now + CLAIM_SECONDS * (0.8 + 0.4 * random.random())
        for queue in self.settings.queues:
            for _ in range(CLAIM_STRETCHES):
                taken, more = await self._bus.jobs.queues.claim(
                    queue, self.name, idle_seconds=self._idle_seconds, count=free
                )
                if taken:
                    self._bus.counters.add("jobs_claimed", len(taken))
                    # There may be more of them: look again as soon as there is room.
                    self._next_claim = now
                    return taken
                if not more:
                    break
        return []

    async def _take(self, free: int, line: Commands) -> list[Taken]:
        """New jobs of the first queue that has any; all of them wait on the first, whose jobs are the most urgent."""
        queues, (first, *others) = self._bus.jobs.queues, self.settings.queues
        if others:
            for queue in self.settings.queues:
                if taken := await queues.take([queue], self.name, count=free):
                    return taken
        return await queues.take([first], self.name, count=free, block_ms=BLOCK_MS, line=line)

    async def _begin(self, job: Taken) -> None:
        if isinstance(job, UnusableJob):
            self._bus.counters.add("jobs_unusable")
            logger.warning("queue %s: job %s dropped: %s", job.queue, job.entry_id, job.defect)
            await self._bus.jobs.queues.acknowledge(job)
        elif self._stopping.is_set():
            await self._bus.jobs.queues.hand_back(job, self.name)
        elif job.execution_id in self._attempts:
            # A second job of what we run: to take the lease again would fence off our own attempt. It stays in the
            # queue until it is claimed, and goes when the execution has ended.
            self._bus.counters.add("jobs_held")
        else:
            self._bus.counters.add("jobs_taken")
            attempt = Attempt(self._bus, self._registry, job, self.name)
            self._attempts[job.execution_id] = attempt
            attempt.on_end(lambda task: self._ended(job, task))

    def _ended(self, job: Job, task: asyncio.Task[None]) -> None:
        del self._attempts[job.execution_id]
        self._news.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("execution %s: the attempt broke", job.execution_id, exc_info=error)

    async def _drain(self) -> None:
        """Wait for what runs, for a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_seconds):
                while self._attempts and not self._hurried.is_set():
                    self._news.clear()
                    await self._news.wait()

    async def _stop_attempts(self) -> None:
        tasks = [attempt.stop() for attempt in self._attempts.values()]
        if not tasks:
            return
        _, deaf = await asyncio.wait(tasks, timeout=STOPPING_SECONDS)
        for task in deaf:
            # Its lease runs out, and it can append nothing once another has taken over.
            logger.error("%s ignores its cancellation; left behind", task.get_name())

    async def _keep_jobs(self) -> None:
        """Tell the other workers that we live, so that they claim nothing that we work on."""
        while True:
            await asyncio.sleep(self._idle_seconds / 3)
            try:
                await self._bus.jobs.queues.keep([attempt.job for attempt in self._attempts.values()], self.name)
            except BusUnavailableError as error:
                logger.debug("jobs not kept: %s", error)

    async def _open_queues(self) -> None:
        for queue in self.settings.queues:
            await self._bus.jobs.queues.open(queue)

    async def _leave_queues(self) -> None:
        try:
            for queue in self.settings.queues:
                await self._bus.jobs.queues.leave(queue, self.name)
        except BusUnavailableError as error:
            logger.debug("queues not left: %s", error)

    async def _wait_for_redis(self, error: BusUnavailableError) -> None:
        self._failures += 1
        if self._failures == 1:
            self._bus.counters.add("worker_outages")
            logger.warning("cannot take jobs: %s; trying on", error)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._backoff.delay_seconds(self._failures, random.random)):
                await self._stopping.wait()
        if isinstance(error, ReplyError) and error.code == "NOGROUP":
            # The queue was deleted, or all of Redis was flushed.
            with contextlib.suppress(BusUnavailableError):
                await self._open_queues()

    def _welcome_redis(self) -> None:
        if self._failures:
            logger.info("taking jobs again, after %d failures", self._failures)
            self._failures = 0
