"""The same question, asked by many at once, is answered once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    def __init__(self) -> None:
        self._running: dict[K, asyncio.Task[V]] = {}

    async def ask(self, key: K, answer: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """Share the answer with all who ask for this key until it is there. Raises what ``answer`` does."""
        task = self._running.get(key)
        # One that is done but not forgotten yet would be awaited without a turn of the loop, over and over.
        if task is None or task.done():
            task = self._running[key] = asyncio.get_running_loop().create_task(answer())
            task.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(task)

    def _forget(self, key: K, done: asyncio.Task[V]) -> None:
        if self._running.get(key) is done:
            del self._running[key]

    async def aclose(self) -> None:
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
