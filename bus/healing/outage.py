"""Whether Redis has been within reach all the time: while it was not, nobody could renew a lease."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from tailrace.bus.errors import ReplyError
from tailrace.bus.log.index import ExecutionIndex
from tailrace.bus.model.counters import Counters
from tailrace.bus.redis.commands import Commands

logger = logging.getLogger(__name__)

# An answer that took longer than this, and half of a lease, took an outage.
SLOW_SECONDS: Final = 2.0
DISCONNECTS: Final = "redis_disconnects"


class OutageWatch:
    """``broken`` says that leases may have run out for no fault of their owners, until ``restored`` is called."""

    def __init__(self, commands: Commands, index: ExecutionIndex, counters: Counters, *, lease_seconds: float) -> None:
        self.broken = False
        self._commands = commands
        self._index = index
        self._counters = counters
        self._lease_seconds = lease_seconds
        self._answered = 0.0
        self._disconnects = 0

    def restored(self) -> None:
        self.broken = False
        self._answered = _now()
        self._disconnects = self._counters[DISCONNECTS]

    def answered(self, asked: float) -> None:
        """Take note of an answer, to what was asked at that time of the loop."""
        # That our own loop stood still says nothing of Redis; a connection that broke does, or a slow answer.
        if self._counters[DISCONNECTS] != self._disconnects:
            self.broken = self.broken or _now() - self._answered > self._lease_seconds / 2
        elif _now() - asked > max(self._lease_seconds / 2, SLOW_SECONDS):
            self.broken = True
        if not self.broken:
            self.restored()

    async def begin(self, within_seconds: float) -> None:
        """Find out whether Redis has just come back and leases ran out meanwhile: who starts now has not seen it away.

        Raises BusUnavailableError.
        """
        self.restored()
        try:
            info = (await self._commands.command("INFO", "server")).decode(errors="replace")
        except ReplyError as error:
            logger.debug("how long Redis has been up could not be asked: %s", error)
            return
        pairs = (line.partition(":") for line in info.splitlines())
        up_seconds = {name: value.strip() for name, _, value in pairs}.get("uptime_in_seconds", "")
        if up_seconds.isdigit() and int(up_seconds) <= self._lease_seconds + within_seconds:
            seconds, _ = await self._commands.command("TIME")
            self.broken = await self._index.was_due((int(seconds) - int(up_seconds)) * 1000)


def _now() -> float:
    return asyncio.get_running_loop().time()
