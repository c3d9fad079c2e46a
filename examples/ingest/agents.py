"""What agents do, of all ingests, on whichever worker: one log that nobody owns, which ``/agents/stream`` shows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from tailrace import Bus, BusError, open_bus

LOG: Final = "agents"
logger = logging.getLogger(__name__)


class AgentLog:
    """One for a process: a log without an owner knows up to 1024 producers, and each publisher is one.

    What the agents do goes on when it cannot be told: that is logged, once until it can be told again.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._publisher = bus.publisher(LOG)
        self._is_told = True

    async def tell(self, event_type: str, source_id: str, event: str, payload: dict[str, Any]) -> None:
        data = {"stream": "agent", "source_id": source_id, "event": event, "payload": payload}
        try:
            await self._publisher.emit(event_type, data)
        except BusError as error:
            if self._is_told:
                logger.warning("the activity of agents is not told: %s", error)
            self._is_told = False
            # It has given up for good, after two minutes; what is emitted next has a new one.
            self._publisher = self._bus.publisher(LOG)
        else:
            self._is_told = True

    async def aclose(self) -> None:
        await self._publisher.abandon()


class Agents:
    """The agents of one ingest."""

    def __init__(self, log: AgentLog, ingest_id: str) -> None:
        self._log = log
        self._source_id = f"coordinator_{ingest_id}"

    @asynccontextmanager
    async def working(self, name: str, message: str) -> AsyncGenerator[None, None]:
        await self.tell("started", name, "running", message, 0.0)
        try:
            yield
        except Exception as error:
            await self.tell("failed", name, "failed", str(error), None)
            raise
        await self.tell("completed", name, "done", message, 1.0)

    async def tell(self, event: str, name: str, status: str, message: str, progress: float | None) -> None:
        payload = {"agent_name": name, "status": status, "message": message, "progress": progress}
        await self._log.tell("agent", self._source_id, event, payload)


_opening = asyncio.Lock()
_logs: list[AgentLog] = []


async def agents_of(ingest_id: str) -> Agents:
    """For a worker, which keeps the log of the first call until it ends."""
    async with _opening:
        if not _logs:
            _logs.append(AgentLog(await open_bus()))
    return Agents(_logs[0], ingest_id)
