"""The code between entering and leaving an execution: a stretch of somebody else's task."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tailrace.bus.ownership.ending import Stop


class Body:
    """Cancels that stretch and nothing beyond it; a cancel from elsewhere is still heard.

    ``stop`` says why it is to stop, once it is. ``abandoned`` is set when the execution goes on, or ends, without it.
    ``stands_down`` says that it does nothing any more but hand back.
    """

    def __init__(self, end: Callable[[Stop], Awaitable[bool]]) -> None:
        """``end`` ends the execution although the body goes on; whether it could."""
        self.stop: Stop | None = None
        self.abandoned = asyncio.Event()
        self.stands_down = False
        self._end = end
        self._task: asyncio.Task[Any] | None = None
        self._cancels = 0
        self._grace: asyncio.TimerHandle | None = None
        self._forcing: asyncio.Task[None] | None = None

    @property
    def is_acting(self) -> bool:
        return self._task is not None and not self.stands_down

    def enter(self) -> None:
        self._task = asyncio.current_task()

    def cancel(self, reason: str) -> None:
        """Have it see CancelledError at its next await; nothing once it is out."""
        if self._task is not None:
            self._cancels += 1
            self._task.cancel(reason)

    def stop_for(self, stop: Stop, grace_seconds: float) -> None:
        """Cancel it, and go on without it if it is not out by then. The first reason is the one that counts."""
        if self.stop is not None:
            return
        self.stop = stop
        self.cancel("the execution is to end")
        if self._task is not None:
            self._grace = asyncio.get_running_loop().call_later(grace_seconds, self._abandon_soon)

    def lose(self, grace_seconds: float) -> None:
        """Cancel it because the execution is another's; after that time it is not waited for."""
        self.cancel("the lease is lost")
        if self._task is not None and self._grace is None:
            self._grace = asyncio.get_running_loop().call_later(grace_seconds, self.abandoned.set)

    def leave(self) -> bool:
        """The body is left, so it is not cancelled any more. Whether the task was cancelled from elsewhere, too."""
        task, self._task = self._task, None
        if self._grace is not None:
            self._grace.cancel()
        left = 0 if task is None else task.cancelling()
        for _ in range(self._cancels):
            left = 0 if task is None else task.uncancel()
        return left > 0

    async def settle(self) -> None:
        """Wait for an ending without it that is under way."""
        if self._forcing is not None:
            await asyncio.wait([self._forcing])

    def _abandon_soon(self) -> None:
        self._forcing = asyncio.create_task(self._abandon(), name="abandon")

    async def _abandon(self) -> None:
        if self.stop is not None and await self._end(self.stop):
            self.abandoned.set()
            # It may have taken no notice only once; what it says from now on is refused.
            self.cancel("the execution has ended")
