"""A timeout that does not count the time that a step waits for others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self


class StepDeadline:
    """Cancels the block after ``seconds``; None is for ever. ``expired`` says afterwards whether that was so.

    The cancellation leaves the block as CancelledError or TimeoutError, or as whatever the block makes of it.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._timeout: asyncio.Timeout | None = None
        self._held = 0
        self._left_seconds = 0.0

    @property
    def expired(self) -> bool:
        return self._timeout is not None and self._timeout.expired()

    async def __aenter__(self) -> Self:
        if self.seconds is not None:
            self._timeout = await asyncio.timeout(self.seconds).__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What a thread holds after this holds nothing.
        self._held += 1
        if self._timeout is not None:
            await self._timeout.__aexit__(kind, error, trace)

    def hold(self) -> None:
        if self._timeout is None:
            return
        self._held += 1
        when = self._timeout.when()
        if self._held == 1 and when is not None and not self._timeout.expired():
            self._left_seconds = when - asyncio.get_running_loop().time()
            self._timeout.reschedule(None)

    def go_on(self) -> None:
        if self._timeout is None:
            return
        self._held -= 1
        if self._held == 0 and not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._left_seconds)


@contextmanager
def held(deadlines: Iterable[StepDeadline]) -> Iterator[None]:
    """None of these runs out within the block."""
    for deadline in deadlines:
        deadline.hold()
    try:
        yield
    finally:
        for deadline in deadlines:
            deadline.go_on()
