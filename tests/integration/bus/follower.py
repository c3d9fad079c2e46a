"""A reader in a task of its own, and what it has seen so far."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from types import TracebackType
from typing import Self

from tailrace.bus import START, Bus, Cursor, Entry, Gap
from tests.patience import patient


class Follower:
    """``async with Follower(bus, run) as follower`` follows until the run ends or the block is left."""

    def __init__(self, bus: Bus, run: str, after: Cursor | str = START, *, delay_seconds: float = 0.0) -> None:
        self.items: list[Entry | Gap] = []
        self.error: BaseException | None = None
        self._bus = bus
        self._run = run
        self._after = after
        self._delay_seconds = delay_seconds
        self._news = asyncio.Event()
        self.task = asyncio.create_task(self._follow())

    @property
    def entries(self) -> list[Entry]:
        return [item for item in self.items if isinstance(item, Entry)]

    @property
    def gaps(self) -> list[Gap]:
        return [item for item in self.items if isinstance(item, Gap)]

    @property
    def types(self) -> list[str]:
        """The story as words; a gap is ``gap:<reason>``."""
        return [f"gap:{item.reason}" if isinstance(item, Gap) else item.type for item in self.items]

    async def until(self, condition: Callable[[Follower], bool], *, seconds: float = 10.0) -> None:
        try:
            async with asyncio.timeout(patient(seconds)):
                while not condition(self):
                    if self.task.done():
                        self.task.result()
                        raise AssertionError(f"ended before: {self.types[-20:]}")
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"not within {seconds:g} s: {len(self.items)} items, {self.types[-20:]}") from None

    async def end(self, *, seconds: float = 10.0) -> list[str]:
        """Wait for the end of the run; raises what following raised."""
        try:
            async with asyncio.timeout(patient(seconds)):
                await asyncio.shield(self.task)
        except TimeoutError:
            raise AssertionError(f"no end within {seconds:g} s: {self.types[-20:]}") from None
        return self.types

    async def _follow(self) -> None:
        try:
            async with aclosing(self._bus.follow(self._run, self._after)) as items:
                async for item in items:
                    self.items.append(item)
                    self._news.set()
                    if self._delay_seconds:
                        await asyncio.sleep(self._delay_seconds)
        finally:
            self._news.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
