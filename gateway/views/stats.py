"""What is going on, counted: here, and among the executions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tailrace.bus import Bus
from tailrace.bus.model.lifecycle import LIVE
from tailrace.gateway.auth.principal import Principal

# Executions under way that are looked at, the longest due first; of more than that, only how many there are is told.
MAX_LOOKED_AT: Final = 1000
# Everybody who asks within so long gets the same answer: counting must cost the same for one monitor and for hundreds.
KEEP_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class UnderWay:
    execution_id: str
    status: str
    pipeline: str | None
    tenant: str | None


@dataclass(frozen=True, slots=True)
class Census:
    """Executions that have not ended. ``complete`` is False when there are more than were looked at."""

    under_way: Sequence[UnderWay]
    complete: bool

    def of(self, principal: Principal) -> Census:
        covered = [each for each in self.under_way if principal.covers(each.execution_id, each.tenant)]
        return Census(covered, self.complete)

    @property
    def by_status(self) -> dict[str, int]:
        counted = Counter(each.status for each in self.under_way)
        return {status: counted[status] for status in sorted(LIVE)}

    @property
    def by_pipeline(self) -> dict[str, int]:
        return dict(Counter(each.pipeline for each in self.under_way if each.pipeline is not None))


class Censuses:
    """Takes one at a time, for all who ask meanwhile and a moment longer."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._latest: tuple[float, Census] | None = None
        self._taking: asyncio.Task[Census] | None = None

    async def latest(self) -> Census:
        """Raises BusUnavailableError."""
        loop = asyncio.get_running_loop()
        if self._latest is not None and loop.time() - self._latest[0] < KEEP_SECONDS:
            return self._latest[1]
        if self._taking is None:
            self._taking = loop.create_task(self._take(), name="stats:census")
            self._taking.add_done_callback(self._taken)
        return await asyncio.shield(self._taking)

    def _taken(self, task: asyncio.Task[Census]) -> None:
        self._taking = None
        if not task.cancelled() and task.exception() is None:
            self._latest = (asyncio.get_running_loop().time(), task.result())

    async def _take(self) -> Census:
        commands, keys = self._bus.commands, self._bus.keys
        due: list[bytes] = await commands.command("ZRANGE", keys.due(), 0, MAX_LOOKED_AT)
        looked_at = [raw.decode(errors="replace") for raw in due[:MAX_LOOKED_AT]]
        states = await asyncio.gather(*(self._bus.log.state(execution_id) for execution_id in looked_at))
        under_way = [
            UnderWay(state.execution_id, state.status, state.pipeline, state.tenant)
            for state in states
            if state is not None and state.status in LIVE
        ]
        return Census(under_way, complete=len(due) <= MAX_LOOKED_AT)
