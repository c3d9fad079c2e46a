"""Bodies under way, for tests that ask something of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self

from tailrace.bus import (
    Bus,
    Entry,
    Execution,
)
from tests.integration.bus.follower import Follower

WAIT = 10.0


class Running:
    """A body in a task of its own, and how far it has come."""

    def __init__(self, bus: Bus, body: Callable[[Execution], Awaitable[Any]], **options: Any) -> None:
        self.entered = asyncio.Event()
        self.execution = bus.execution("run", **options)
        self._body = body
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with self.execution as execution:
            self.entered.set()
            execution.result = await self._body(execution)

    async def __aenter__(self) -> Self:
        entering = asyncio.create_task(self.entered.wait())
        await asyncio.wait([entering, self.task], return_when=asyncio.FIRST_COMPLETED)
        entering.cancel()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


async def forever(_: Execution) -> None:
    await asyncio.Event().wait()


async def counting(execution: Execution) -> None:
    for number in range(10_000):
        await execution.append("a", number)
        await asyncio.sleep(0.01)


async def story(bus: Bus, run: str = "run") -> list[Entry]:
    async with Follower(bus, run) as follower:
        await follower.end()
        assert follower.gaps == []
        return follower.entries


def types(entries: list[Entry]) -> list[str]:
    return [entry.type.removeprefix("execution.") for entry in entries]


async def take_over(bus: Bus) -> Execution:
    """As another worker does once the lease has run out."""
    await bus.commands.command("HSET", bus.keys.meta("run"), "lease_until", 1)
    return bus.execution("run")


async def left_alone(bus: Bus) -> None:
    """Begun by somebody who let go of it without an ending."""
    lease = await bus.leases.take("run", "gone")
    publisher = bus.publisher("run", fence=lease.fence)
    await publisher.append("execution.started", {})
    await publisher.aclose()
    await bus.leases.release(lease)
