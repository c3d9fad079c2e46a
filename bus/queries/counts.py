"""Executions that have not ended, counted by status and by pipeline."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from tailrace.bus.log.index import ExecutionIndex
from tailrace.bus.log.log import Log
from tailrace.bus.model.lifecycle import LIVE, Status
from tailrace.bus.model.state import State
from tailrace.bus.queries.listing import ListQuery, list_executions

# Live executions that are looked at, the longest due first; of more than that, only how many there are is told.
MAX_LOOKED_AT: Final = 1000
# All who ask within so long gets the same answer: counting must cost the same for one monitor and for hundreds.
KEEP_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class LiveExecutions:
    """Executions that have not ended. ``complete`` is False when there are more than were looked at."""

    executions: Sequence[State]
    complete: bool

    def where(self, covers: Callable[[State], bool]) -> LiveExecutions:
        """Those of whose state ``covers`` says so."""
        return LiveExecutions([state for state in self.executions if covers(state)], self.complete)

    @property
    def by_status(self) -> dict[str, int]:
        counted: Counter[str] = Counter(each.status for each in self.executions)
        return {status: counted[status] for status in sorted(LIVE)}

    @property
    def by_pipeline(self) -> dict[str, int]:
        return dict(Counter(each.pipeline for each in self.executions if each.pipeline is not None))


async def count_labelled(
    log: Log, index: ExecutionIndex, labels: Sequence[tuple[str, str]], tenant: str | None = None
) -> LiveExecutions:
    """Those that have all of these labels, of the newest thousand with the first one. Raises BusUnavailableError."""
    live = cast("tuple[Status, ...]", tuple(sorted(LIVE)))
    query = ListQuery(statuses=live, tenant=tenant, labels=tuple(labels), limit=MAX_LOOKED_AT)
    page = await list_executions(log, index, query)
    return LiveExecutions(page.states, complete=page.next is None)


class LiveCounts:
    """Takes one at a time, for all who ask meanwhile and a moment longer."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._latest: tuple[float, LiveExecutions] | None = None
        self._taking: asyncio.Task[LiveExecutions] | None = None

    async def latest(self) -> LiveExecutions:
        """Raises BusUnavailableError."""
        loop = asyncio.get_running_loop()
        if self._latest is not None and loop.time() - self._latest[0] < KEEP_SECONDS:
            return self._latest[1]
        if self._taking is None:
            self._taking = loop.create_task(self._take(), name="counts")
            self._taking.add_done_callback(self._taken)
        return await asyncio.shield(self._taking)

    def _taken(self, task: asyncio.Task[LiveExecutions]) -> None:
        self._taking = None
        if not task.cancelled() and task.exception() is None:
            self._latest = (asyncio.get_running_loop().time(), task.result())

    async def _take(self) -> LiveExecutions:
        due: list[bytes] = await self._log.commands.command("ZRANGE", self._log.keys.due(), 0, MAX_LOOKED_AT)
        looked_at = [raw.decode(errors="replace") for raw in due[:MAX_LOOKED_AT]]
        states = await asyncio.gather(*(self._log.state(execution_id) for execution_id in looked_at))
        live = [state for state in states if state is not None and state.status in LIVE]
        return LiveExecutions(live, complete=len(due) <= MAX_LOOKED_AT)
