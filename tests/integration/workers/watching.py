"""Ways to start workers and to see what they did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tailrace.bus import Bus, Entry
from tailrace.workers import Registry, Worker, WorkerSettings, built_in
from tests.patience import patient

PATIENCE_SECONDS = 30.0


@asynccontextmanager
async def working(bus: Bus, registry: Registry | None = None, **settings: Any) -> AsyncIterator[Worker]:
    """A worker that runs, and is stopped in the end."""
    worker = Worker(
        bus, registry or built_in(allow_command=True, document_roots=[Path("/")]), WorkerSettings(**settings)
    )
    running = asyncio.create_task(worker.run())
    try:
        yield worker
        assert not running.done() or running.exception() is None
    finally:
        worker.stop()
        async with asyncio.timeout(patient(PATIENCE_SECONDS)):
            await running


async def watch(bus: Bus, execution_id: str, until: str | None = None) -> list[Entry]:
    """All of an execution's log, or up to the first entry of a type. A gap fails the test."""
    entries: list[Entry] = []
    async with asyncio.timeout(patient(PATIENCE_SECONDS)):
        async for item in bus.follow(execution_id):
            assert isinstance(item, Entry), item
            entries.append(item)
            if item.type == until:
                break
    return entries


async def run(bus: Bus, pipeline: str, given: dict[str, Any], **options: Any) -> list[Entry]:
    """Submit, and watch to the end."""
    return await watch(bus, await bus.submit(pipeline, given, **options))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that nothing announces."""

    async def asked() -> bool:
        return condition()

    await until_true(asked)


async def jobs_left(bus: Bus, queue: str = "default") -> tuple[int, int]:
    """(entries of the queue, of which held)."""
    key = bus.keys.jobs(queue)
    pending = await bus.commands.command("XPENDING", key, "workers")
    return int(await bus.commands.command("XLEN", key)), int(pending[0])


async def until_no_jobs_left(bus: Bus, queue: str = "default") -> None:
    async def none_left() -> bool:
        return await jobs_left(bus, queue) == (0, 0)

    await until_true(none_left)


def types_of(entries: list[Entry]) -> list[str]:
    return [entry.type for entry in entries]


async def until_true(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(patient(PATIENCE_SECONDS)):
        while not await condition():  # noqa: ASYNC110 - servers and processes set no event of ours
            await asyncio.sleep(0.01)
