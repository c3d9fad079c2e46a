"""Calls of a body that go on though it has left them: threads, and tasks that are deaf to their cancellation."""

from __future__ import annotations

import asyncio
from typing import Any


class LeftCalls:
    """True while there are any."""

    def __init__(self) -> None:
        self._calls: set[asyncio.Future[Any]] = set()

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, call: asyncio.Future[Any]) -> None:
        """Hold on to a call, which the loop itself does only weakly, until it ends."""
        if not call.done():
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def ended(self, within_seconds: float | None = None) -> bool:
        """Wait until all have ended; whether they have in that time."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=within_seconds)
        return not self._calls
