"""Who is told of every event, beside those that watch: a callback, the metrics, a file, and one that always fails."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tailrace import Bus, BusUnavailableError, Delivery, ExecutionMetrics, Gap, Handlers, JsonlFile

logger = logging.getLogger(__name__)

# Executions that are known to be followed already, though more is told of them.
MAX_KNOWN = 50_000
RETRY_SECONDS = 1.0


class Subscribers:
    """What they have seen of all executions since this instance was started."""

    def __init__(self) -> None:
        self.metrics = ExecutionMetrics()
        self.counted: Counter[str] = Counter()
        self._known: OrderedDict[str, None] = OrderedDict()
        self._handlers = Handlers()
        self._handlers.add(self.metrics)
        self._handlers.add(self._callback)
        self._handlers.add(self._broken, "execution.completed")

    def snapshot(self) -> dict[str, Any]:
        failures = dict(self._handlers.failures)
        return {"callback": self.counted, "metrics": self.metrics.snapshot(), "failures": failures}

    @asynccontextmanager
    async def following(self, bus: Bus) -> AsyncGenerator[None, None]:
        tasks = [asyncio.create_task(self._follow_all(bus))]
        if directory := os.environ.get("PIPELINE_EVENTS_DIR"):
            tasks.append(asyncio.create_task(_write(bus, Path(directory) / f"events-{os.getpid()}.jsonl")))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _callback(self, event: Delivery) -> None:
        self.counted[event.type] += 1

    def _broken(self, event: Delivery) -> None:
        raise RuntimeError(f"this subscriber always fails, as with {event.execution_id}")

    async def _follow_all(self, bus: Bus) -> None:
        """Each instance by itself, so that each has all figures; nothing of it is left in Redis."""
        async with asyncio.TaskGroup() as following:
            while True:
                try:
                    async for change in bus.activity():
                        if not isinstance(change, Gap) and change.execution_id not in self._known:
                            self._known[change.execution_id] = None
                            if len(self._known) > MAX_KNOWN:
                                self._known.popitem(last=False)
                            following.create_task(self._follow(bus, change.execution_id))
                except BusUnavailableError as error:
                    logger.warning("the activity cannot be followed: %s; retrying", error)
                    await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self, bus: Bus, execution_id: str) -> None:
        try:
            if await bus.state(execution_id) is not None:
                await self._handlers.follow(bus, execution_id)
        except BusUnavailableError as error:
            logger.warning("execution %s is missing in the figures: %s", execution_id, error)


async def _write(bus: Bus, path: Path) -> None:
    """One of the instances writes each event, once, also if it comes while none of them runs."""
    handlers = Handlers()
    with JsonlFile(path) as file:
        handlers.add(file)
        await handlers.follow_all(bus, "pipeline-file")
