"""What tests of following ask of a run and of a bus."""

from __future__ import annotations

import asyncio
from typing import Any

from tailrace.bus import (
    Bus,
    Cursor,
)
from tailrace.bus.model.cursor import from_id
from tests.integration.bus.follower import Follower
from tests.patience import patient


async def publish(bus: Bus, run: str, first: int, last: int, *, end: bool = False) -> None:
    publisher = bus.publisher(run)
    for number in range(first, last + 1):
        await publisher.emit("a", number)
    if end:
        await publisher.emit("execution.completed")
    await publisher.aclose()


def data_of(follower: Follower) -> list[Any]:
    return [entry.data for entry in follower.entries if entry.type == "a"]


async def watches(bus: Bus) -> int:
    tail: Any = await bus.tail()
    if tail.mode == "tracking":
        return sum(1 for key in tail._watches for _ in tail._of_key(key))
    return sum(len(group.watches) for group in tail._groups)


async def until_watched(bus: Bus, count: int) -> None:
    async with asyncio.timeout(patient(10)):
        while await watches(bus) != count:  # noqa: ASYNC110 - the tail tells nobody
            await asyncio.sleep(0.005)


async def stored_ids(bus: Bus, run: str) -> list[Cursor]:
    raw = await bus.commands.command("XRANGE", bus.keys.log(run), "-", "+")
    return [from_id(entry_id) for entry_id, _ in raw]
