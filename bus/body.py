"""The code between entering and leaving an execution: a stretch of somebody else's task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class Body:
    """Cancels that stretch and nothing beyond it; whoever cancels the task himself is still heard."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._cancels = 0
        self._grace: asyncio.TimerHandle | None = None

    @property
    def inside(self) -> bool:
        return self._task is not None

    def enter(self) -> None:
        self._task = asyncio.current_task()

    def cancel(self, reason: str) -> None:
        """Have it see CancelledError at its next await; nothing once it has left."""
        if self._task is not None:
            self._cancels += 1
            self._task.cancel(reason)

    def expect_out(self, within_seconds: float, deaf: Callable[[], None]) -> None:
        """Call if it has not left by then."""
        if self._task is not None:
            self._grace = asyncio.get_running_loop().call_later(within_seconds, deaf)

    def leave(self) -> bool:
        """It is out, so nobody cancels it any more. Whether somebody else wants the task cancelled, too."""
        task, self._task = self._task, None
        if self._grace is not None:
            self._grace.cancel()
        if task is None:
            return False
        left = task.cancelling()
        for _ in range(self._cancels):
            left = task.uncancel()
        return left > 0
