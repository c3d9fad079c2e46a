"""A listener that writes down what a tail tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tailrace.bus.model.cursor import Cursor, from_id
from tailrace.bus.model.reading import RawEntry
from tests.patience import patient


class Recorder:
    """``resume`` decides what happens after a disturbance; without it the watch stays suspended."""

    def __init__(self) -> None:
        self.cursors: list[Cursor] = []
        self.batches: list[int] = []
        self.disturbances: list[str] = []
        self.resume: Callable[[], None] | None = None
        self._news = asyncio.Event()

    @property
    def numbers(self) -> list[int]:
        return [cursor.n for cursor in self.cursors]

    @property
    def last(self) -> Cursor:
        return self.cursors[-1]

    def deliver(self, entries: Sequence[RawEntry]) -> None:
        self.batches.append(len(entries))
        self.cursors += [from_id(entry_id) for entry_id, _ in entries]
        self._news.set()

    def disturbed(self, reason: str) -> None:
        self.disturbances.append(reason)
        self._news.set()
        if self.resume is not None:
            self.resume()

    async def until(self, condition: Callable[[Recorder], bool], *, seconds: float = 10.0) -> None:
        """Wait for something this listener was told. Raises AssertionError with all it was told."""
        try:
            async with asyncio.timeout(patient(seconds)):
                while not condition(self):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(
                f"not within {seconds:g} s: {len(self.cursors)} entries, last {self.cursors[-1:]}, {self.disturbances}"
            ) from None
