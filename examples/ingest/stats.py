"""How many ingests are active, over all instances and workers; viewers are told when that changes."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from typing import Any, Final

import library

from tailrace import Bus, BusUnavailableError

LABELS: Final = {"application": "ingest"}
MAX_SHOWN: Final = 100
# The documents change without a change of an ingest, and an answer of Redis may be late: looked at anew all the same.
LOOK_AGAIN_SECONDS: Final = 5.0
TOGETHER_SECONDS: Final = 0.05
RETRY_SECONDS: Final = 1.0
HEARTBEATS: Final = 15
logger = logging.getLogger(__name__)


async def stats_of(bus: Bus) -> dict[str, Any]:
    """Raises BusUnavailableError. ``complete`` is False where more are active than were looked at."""
    live = await bus.count(labels=LABELS)
    active = [
        {
            "id": state.execution_id,
            "type": state.labels["type"],
            "source": state.labels["source"],
            "status": state.status,
            "submitted_at": datetime.fromtimestamp((state.created_ms or 0) / 1000, UTC).isoformat(),
        }
        for state in live.executions[:MAX_SHOWN]
    ]
    return {
        "processing_count": len(live.executions),
        "complete": live.complete,
        "by_status": live.by_status,
        "active_ingests": active,
        "documents": await library.count(),
    }


class Stats:
    """Looked at once an instance, for all who watch there."""

    def __init__(self) -> None:
        self._latest: tuple[str, dict[str, Any]] | None = None
        self._changed = asyncio.Event()

    async def follow(self, bus: Bus) -> None:
        while True:
            try:
                await self._follow(bus)
            except* (BusUnavailableError, sqlite3.Error) as errors:
                logger.warning("stats are not known: %s; retrying", errors.exceptions[0])
                self._tell("error", {"code": 503, "detail": str(errors.exceptions[0])})
            await asyncio.sleep(RETRY_SECONDS)

    async def stream(self, stopping: Callable[[], bool]) -> AsyncGenerator[bytes, None]:
        """One event for each change, the latest first of all. A viewer that is slow is told the latest only."""
        shown: tuple[str, dict[str, Any]] | None = None
        silent = 0
        while not stopping():
            changed = self._changed
            if self._latest is not None and self._latest != shown:
                shown, silent = self._latest, 0
                yield f"event: {shown[0]}\ndata: {json.dumps(shown[1])}\n\n".encode()
            try:
                await asyncio.wait_for(changed.wait(), 1.0)
            except TimeoutError:
                silent += 1
                if silent % HEARTBEATS == 0:
                    yield b": hb\n"

    async def _follow(self, bus: Bus) -> None:
        async with asyncio.TaskGroup() as tasks:
            woken = asyncio.Event()
            tasks.create_task(self._listen(bus, woken))
            while True:
                woken.clear()
                self._tell("stats", await stats_of(bus))
                try:
                    await asyncio.wait_for(woken.wait(), LOOK_AGAIN_SECONDS)
                except TimeoutError:
                    continue
                await asyncio.sleep(TOGETHER_SECONDS)

    async def _listen(self, bus: Bus, woken: asyncio.Event) -> None:
        async for _ in bus.activity(pipeline="ingest"):
            woken.set()

    def _tell(self, name: str, data: dict[str, Any]) -> None:
        self._latest = (name, data)
        self._changed.set()
        self._changed = asyncio.Event()
