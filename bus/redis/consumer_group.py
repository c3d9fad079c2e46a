"""A consumer group of Redis: each entry of a stream is one consumer's, who holds it until it is acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tailrace.bus.errors import ReplyError
from tailrace.bus.redis.commands import Commands
from tailrace.bus.redis.script import Script

# Longer than any consumer waits before claiming.
LONG_IDLE_MS: Final = 24 * 3600 * 1000
_SWEEP: Final = Script.load("sweep")


class ConsumerGroup:
    """Every method raises BusUnavailableError; ReplyError with code NOGROUP when the group is missing."""

    def __init__(self, commands: Commands, key: str, name: str) -> None:
        self._commands = commands
        self._key = key
        self._name = name

    async def open(self, start: str = "0") -> bool:
        """Make sure there is the group; whether it is new: then it sees all entries after ``start``."""
        try:
            await self._commands.command("XGROUP", "CREATE", self._key, self._name, start, "MKSTREAM")
        except ReplyError as error:
            if error.code != "BUSYGROUP":
                raise
            return False
        return True

    async def claim(
        self, consumer: str, *, idle_seconds: float, start: bytes, count: int
    ) -> tuple[bytes, list[Sequence[Any]]]:
        """Take over entries of consumers that have not renewed them for so long, from ``start`` on.

        Looks at some of what is held; the first value is where to go on, ``0-0`` at the end.
        """
        following, entries, *_ = await self._commands.command(
            "XAUTOCLAIM", self._key, self._name, consumer, int(idle_seconds * 1000), start, "COUNT", count
        )
        return following, entries

    async def keep(self, consumer: str, entry_ids: Sequence[str]) -> None:
        """Say that a live consumer holds these."""
        if entry_ids:
            await self._commands.command("XCLAIM", self._key, self._name, consumer, 0, *entry_ids, "JUSTID")

    async def hand_back(self, consumer: str, entry_ids: Sequence[str]) -> None:
        """Let the next consumer that claims have them at once."""
        if entry_ids:
            await self._commands.command(
                "XCLAIM", self._key, self._name, consumer, 0, *entry_ids, "IDLE", LONG_IDLE_MS, "JUSTID"
            )

    async def acknowledge(self, entry_ids: Sequence[str]) -> None:
        if entry_ids:
            await self._commands.command("XACK", self._key, self._name, *entry_ids)

    async def leave(self, consumer: str) -> None:
        """Forget a consumer that holds nothing; one that does stays, so that its entries can be claimed."""
        if not await self._commands.command("XPENDING", self._key, self._name, "-", "+", 1, consumer):
            await self._commands.command("XGROUP", "DELCONSUMER", self._key, self._name, consumer)

    async def sweep(self, idle_seconds: float) -> None:
        """Forget consumers that hold nothing and have not been seen for so long; one that comes back is made anew."""
        await _SWEEP.run(self._commands, (self._key,), self._name, int(idle_seconds * 1000))
