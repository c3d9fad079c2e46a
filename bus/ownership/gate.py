"""Whether an execution may be taken from an owner whose lease has run out.

While Redis was away, restarted or failed over, or its clock was set forward, no owner could renew: owners then get time
to come back before anything is taken from them. Every way of taking over asks here: healer, claimed job, healing of
what is watched, ``bus.execution``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from tailrace.bus.errors import ReplyError
from tailrace.bus.log.index import ExecutionIndex
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.fields import number
from tailrace.bus.model.retry import Backoff
from tailrace.bus.redis.commands import Commands

logger = logging.getLogger(__name__)

# An answer that took longer than this, and a quarter of a lease, took an outage.
SLOW_SECONDS: Final = 2.0
# By when owners have connected again: no connection waits longer between two attempts, and a renewal is quick.
RECONNECTED_SECONDS: Final = Backoff().most_seconds + 1.0
# A clock that is slewed, or a busy machine, moves less than this between two looks.
CLOCK_STEP_MS: Final = 1000
# Healers look twice a second: what has been due for longer was left by nobody, or the clock was set forward.
OVERDUE_MS: Final = 3000
# What the gate has seen is worth this long: no more than one look a claim of many jobs.
FRESH_SECONDS: Final = 0.05
DISCONNECTS: Final = ("redis_disconnects", "session_disconnects")


class TakeOverGate:
    """Open, but for ``hold_seconds`` after an outage of Redis or a step of its clock was noticed."""

    def __init__(
        self,
        commands: Commands,
        index: ExecutionIndex,
        counters: Counters,
        *,
        lease_seconds: float,
        hold_seconds: float | None = None,
    ) -> None:
        self.hold_seconds = max(RECONNECTED_SECONDS, lease_seconds / 3) if hold_seconds is None else hold_seconds
        self._commands = commands
        self._index = index
        self._counters = counters
        self._lease_seconds = lease_seconds
        self._slow_seconds = max(lease_seconds / 4, SLOW_SECONDS)
        self._closed_until = 0.0
        # As long as leases say nothing, since we have just begun to look at them.
        self._new_until = 0.0
        # When Redis last answered, by our clock; how far its clock is ahead of ours.
        self._answered: float | None = None
        self._ahead_ms = 0.0
        self._disconnects = 0
        self._look: asyncio.Lock = asyncio.Lock()

    async def is_open(self, redis_ms: int | None = None) -> bool:
        """Look at Redis now; ``redis_ms`` is its clock, as the caller has just been told.

        Raises BusUnavailableError, and the gate is closed then.
        """
        async with self._look:
            now = time.monotonic()
            if self._answered is None:
                await self._begin()
            elif (
                now - self._answered > FRESH_SECONDS
                or self._counters_moved()
                or (redis_ms is not None and redis_ms - now * 1000 - self._ahead_ms > CLOCK_STEP_MS)
            ):
                await self._observe()
            return time.monotonic() >= max(self._closed_until, self._new_until)

    @property
    def is_suspended(self) -> bool:
        """Whether what is gone may only be away: then not even a dead session says anything."""
        return time.monotonic() < self._closed_until

    def close(self, reason: str) -> None:
        now = time.monotonic()
        if now >= self._closed_until:
            self._counters.add("heal_pauses")
            logger.warning(
                "takeovers are suspended for %.0f s, so that owners can reconnect: %s", self.hold_seconds, reason
            )
        self._closed_until = now + self.hold_seconds

    def _counters_moved(self) -> bool:
        return sum(self._counters[name] for name in DISCONNECTS) != self._disconnects

    async def _begin(self) -> None:
        """A process that starts now has seen no outage and no step of a clock, but what is overdue since."""
        await self._observe()
        now_ms = int(time.monotonic() * 1000 + self._ahead_ms)
        overdue_ms = max(now_ms - OVERDUE_MS, await self._up_since_ms(now_ms))
        if await self._index.was_due(overdue_ms):
            self._new_until = time.monotonic() + self.hold_seconds
            self._counters.add("heal_pauses")
            logger.warning(
                "leases had run out before this process began; their owners get %.0f s to renew them", self.hold_seconds
            )

    async def _up_since_ms(self, now_ms: int) -> int:
        """When Redis was started, by its clock; 0 where it does not say."""
        try:
            info = (await self._commands.command("INFO", "server")).decode(errors="replace")
        except ReplyError as error:
            logger.debug("how long Redis has been up could not be asked: %s", error)
            return 0
        pairs = (line.partition(":") for line in info.splitlines())
        up_seconds = number({name: value.strip() for name, _, value in pairs}.get("uptime_in_seconds", ""))
        return 0 if up_seconds is None else now_ms - up_seconds * 1000

    async def _observe(self) -> None:
        asked = time.monotonic()
        try:
            seconds, micros = await self._commands.command("TIME")
        except Exception:
            self.close("Redis does not answer")
            raise
        now = time.monotonic()
        ahead_ms = int(seconds) * 1000 + int(micros) / 1000 - (asked + now) / 2 * 1000
        if self._answered is not None:
            silent = now - self._answered
            # Our own loop standing still says nothing about Redis; a connection that broke meanwhile does.
            if self._counters_moved() and silent > self._lease_seconds / 4:
                self.close(f"Redis was away for up to {silent:.1f} s")
            elif now - asked > self._slow_seconds:
                self.close(f"Redis took {now - asked:.1f} s to answer")
            # Twice the round trip is how wrong the comparison can be.
            step_ms = ahead_ms - self._ahead_ms
            if step_ms > CLOCK_STEP_MS + (now - asked) * 1000:
                self.close(f"Redis' clock was set forward by {step_ms / 1000:.1f} s")
        self._answered, self._ahead_ms = now, ahead_ms
        self._disconnects = sum(self._counters[name] for name in DISCONNECTS)
