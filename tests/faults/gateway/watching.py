"""Viewers and a publisher that go on through whatever happens, and the verdict on what they got."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from tailrace.bus import Bus
from tests.e2e.followers import Follower
from tests.e2e.logs import log_data, log_ids


def never(_: random.Random) -> None:
    """Cut nobody."""


def often(chance: random.Random) -> int:
    return int(chance.expovariate(1 / 8_000)) + 1


def followers_of(run: str, urls: Sequence[str], count: int, *, restless: bool = False) -> list[Follower]:
    return [
        Follower(run, urls, random.Random(f"{run}:{number}"), often if restless else never) for number in range(count)
    ]


class Publishing:
    """Emits numbers at a steady pace until it is told to end; then ends the run."""

    def __init__(self, bus: Bus, run: str, *, events_a_second: int = 200) -> None:
        self._bus = bus
        self._run = run
        self._pause_seconds = 1 / events_a_second
        self._enough = asyncio.Event()
        self.emitted = 0

    def end(self) -> None:
        self._enough.set()

    async def publish(self) -> None:
        async with self._bus.execution(self._run) as execution:
            while not self._enough.is_set():
                await execution.emit("custom.counted", {"k": self.emitted})
                self.emitted += 1
                await asyncio.sleep(self._pause_seconds)


async def assert_all_got_exactly(bus: Bus, run: str, emitted: int, followers: Sequence[Follower]) -> None:
    """The log is what was emitted, once each and in order, and each follower has the log."""
    ids = await log_ids(bus, run)
    assert [data["k"] for data in (await log_data(bus, run))[1:-1]] == list(range(emitted))
    for follower in followers:
        assert follower.gaps == []
        assert follower.ids == ids
