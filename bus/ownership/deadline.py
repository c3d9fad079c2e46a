"""A clock that runs down while an execution runs, and stands still while it is paused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class ExecutionDeadline:
    def __init__(self, seconds: float | None, call: Callable[[], None]) -> None:
        """Call once so many seconds of running have passed; never for None."""
        self._left_seconds = seconds
        self._call = call
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def run(self) -> None:
        if self._left_seconds is not None and self._timer is None:
            loop = asyncio.get_running_loop()
            self._since = loop.time()
            self._timer = loop.call_later(self._left_seconds, self._call)

    def hold(self) -> None:
        if self._left_seconds is not None and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._left_seconds = max(0.0, self._left_seconds - (asyncio.get_running_loop().time() - self._since))

    def stop(self) -> None:
        """Never call any more."""
        self.hold()
        self._left_seconds = None
