"""A follower that goes on through whatever happens, and can be asked how far it has come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from tailrace.bus import Entry
from tailrace.bus.log.follow import follow
from tailrace.bus.log.log import Log
from tailrace.bus.model.cursor import START
from tailrace.bus.model.entry import Gap
from tailrace.bus.tail.watch import Tail
from tests.patience import patient


class Following:
    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.data: list[Any] = []
        self.gaps: list[Gap] = []
        self._news = asyncio.Event()

    async def reached(self, count: int, *, seconds: float) -> None:
        """Wait for so many entries. Raises AssertionError."""
        try:
            async with asyncio.timeout(patient(seconds)):
                while len(self.numbers) < count:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{len(self.numbers)} of {count} entries within {seconds:g} s") from None

    async def read(self, log: Log, tail: Tail, run: str) -> None:
        async for item in follow(log, tail, run, START):
            if isinstance(item, Entry):
                self.numbers.append(item.cursor.n)
                self.data.append(orjson.loads(item.raw_data))
            elif item is not None:
                self.gaps.append(item)
            self._news.set()


@asynccontextmanager
async def following(log: Log, tail: Tail, run: str) -> AsyncGenerator[Following, None]:
    """Follow from the start to the end, which must have come on leaving well."""
    made = Following()
    task = asyncio.create_task(made.read(log, tail, run))
    try:
        yield made
        await asyncio.wait_for(asyncio.shield(task), patient(15))
    finally:
        task.cancel()
        await asyncio.wait([task])
