"""Concurrency keys: of all executions with the same one, at most one is in flight.

Each key has a slot that names its holder. A holder is replaced only by compare-and-set, and only when its own state
says that it has ended or is gone: nothing has to be released, so a crash cannot leave it taken.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import Final

from tailrace.bus.model.keys import Keys
from tailrace.bus.model.retention import Retention
from tailrace.bus.redis.commands import Commands
from tailrace.bus.redis.script import Script

# A slot outlives the state of its holder, which is what decides; afterwards it only takes up room.
LIVES_LONGER: Final = 2


@dataclass(frozen=True, slots=True)
class Slot:
    """What was seen in a key's slot; ``holder`` is None in an empty one."""

    raw: bytes

    @property
    def holder(self) -> str | None:
        return self.raw.decode(errors="replace").partition(" ")[0] or None


class Concurrency:
    """Every method raises BusUnavailableError."""

    def __init__(self, commands: Commands, keys: Keys, retention: Retention) -> None:
        self._commands = commands
        self._keys = keys
        self._slot_seconds = retention.live_seconds * LIVES_LONGER
        self._swap = Script.load("swap")

    async def slot(self, tenant: str | None, concurrency_key: str) -> Slot:
        return Slot(await self._commands.command("GET", self._key(tenant, concurrency_key)) or b"")

    async def take(self, tenant: str | None, concurrency_key: str, execution_id: str, seen: Slot) -> Slot:
        """Put an execution into the slot unless it has changed since it was ``seen``; gives what it holds then."""
        # Never the same twice: who saw an earlier holder of the same id must not take this one for it.
        value = f"{execution_id} {uuid.uuid4().hex[:12]}"
        key = self._key(tenant, concurrency_key)
        return Slot(await self._swap.run(self._commands, (key,), seen.raw, value, self._slot_seconds))

    async def keep(self, tenant: str | None, concurrency_key: str, *, delay_seconds: int = 0) -> None:
        """Keep the slot of one that waits, or runs, for longer than a quiet execution lives. Never shortens."""
        seconds = self._slot_seconds + delay_seconds
        await self._commands.command("EXPIRE", self._key(tenant, concurrency_key), seconds, "GT")

    def _key(self, tenant: str | None, concurrency_key: str) -> str:
        # A digest, because no pair of tenant and key may ever read like another.
        return self._keys.concurrency(tenant, hashlib.sha256(concurrency_key.encode()).hexdigest()[:32])
