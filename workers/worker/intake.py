"""Where a worker's jobs come from: delayed ones that are due, those of lost workers, and new ones."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from tailrace.bus.bus import Bus
from tailrace.bus.errors import ReplyError
from tailrace.bus.jobs.queue import Taken
from tailrace.bus.redis.commands import Commands

logger = logging.getLogger(__name__)

# How long a take waits in Redis: as long as the last act of a stop, or a job of a less urgent queue, may have to wait.
BLOCK_MS: Final = 200
# How often jobs of lost workers are looked for.
CLAIM_SECONDS: Final = 1.0
# How many stretches of the held jobs one search looks at.
CLAIM_STRETCHES: Final = 20
# How often delayed jobs are looked for, and how many are let go at a time.
DUE_SECONDS: Final = 0.2
DUE_COUNT: Final = 100


class JobIntake:
    """``line`` is for waiting. Every method raises BusUnavailableError."""

    def __init__(self, bus: Bus, queues: tuple[str, ...], consumer: str, line: Commands) -> None:
        self._bus = bus
        self._names = queues
        self._consumer = consumer
        self._line = line
        self._queues = bus.jobs.queues
        self._idle_seconds = bus.settings.lease_seconds
        self._next_claim = 0.0
        # When to look for consumers of workers that were killed.
        self._next_sweep = 0.0
        self._next_due = 0.0

    async def open(self) -> None:
        for name in self._names:
            await self._queues.open(name)

    async def leave(self) -> None:
        for name in self._names:
            await self._queues.leave(name, self._consumer)

    async def take(self, count: int) -> list[Taken]:
        """At most ``count``; none when a short while has passed without any."""
        await self._let_due_go()
        return await self._claim(count) or await self._take(count)

    async def _let_due_go(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._next_due:
            return
        self._next_due = now + DUE_SECONDS * (0.8 + 0.4 * random.random())
        for name in self._names:
            try:
                if await self._bus.jobs.move_due(name, count=DUE_COUNT) == DUE_COUNT:
                    # There may be more. One stretch a take: neither what is ready nor a stop waits for all of them.
                    self._next_due = now
            except ReplyError as error:
                if not error.is_of_the_key:
                    raise
                # What is not delayed goes on.
                self._bus.counters.add("delayed_jobs_unusable")
                logger.error("queue %s: its delayed jobs cannot be read: %s", name, error)  # noqa: TRY400 - no trace helps

    async def _claim(self, count: int) -> list[Taken]:
        """What lost workers held. Looked for first: it has waited longest."""
        now = asyncio.get_running_loop().time()
        if now < self._next_claim:
            return []
        self._next_claim = now + CLAIM_SECONDS * (0.8 + 0.4 * random.random())
        for name in self._names:
            for _ in range(CLAIM_STRETCHES):
                taken, more = await self._queues.claim(
                    name, self._consumer, idle_seconds=self._idle_seconds, count=count
                )
                if taken:
                    self._bus.counters.add("jobs_claimed", len(taken))
                    # There may be more of them: look again as soon as there is room.
                    self._next_claim = now
                    return taken
                if not more:
                    break
            if now >= self._next_sweep:
                await self._queues.sweep(name, idle_seconds=self._idle_seconds)
        if now >= self._next_sweep:
            self._next_sweep = now + self._idle_seconds
        return []

    async def _take(self, count: int) -> list[Taken]:
        """New jobs of the first queue that has any; all of them wait on the first, whose jobs are the most urgent."""
        first, *others = self._names
        if others:
            for name in self._names:
                if taken := await self._queues.take([name], self._consumer, count=count):
                    return taken
        return await self._queues.take([first], self._consumer, count=count, block_ms=BLOCK_MS, line=self._line)
