"""Whether event loops still turn, as seen from another thread."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from functools import partial


class LoopWatch:
    def __init__(self, stall_seconds: float) -> None:
        self._stall_seconds = stall_seconds
        # When each was asked to answer; infinite once it has.
        self._asked: dict[asyncio.AbstractEventLoop, float] = {}
        self._stalled: set[asyncio.AbstractEventLoop] = set()

    def look(
        self, loops: set[asyncio.AbstractEventLoop], now: float
    ) -> Iterator[tuple[asyncio.AbstractEventLoop, float, bool]]:
        """Give those that stall: for how long, and whether that is new. The others are asked to answer."""
        for loop in [each for each in self._asked if each not in loops]:
            del self._asked[loop]
            self._stalled.discard(loop)
        for loop in loops:
            since = self._asked.get(loop, math.inf)
            if since == math.inf:
                self._stalled.discard(loop)
                self._asked[loop] = now
                try:
                    loop.call_soon_threadsafe(partial(self._answer, loop))
                except RuntimeError:
                    # It is closed.
                    continue
            elif now - since >= self._stall_seconds:
                is_new = loop not in self._stalled
                self._stalled.add(loop)
                yield loop, now - since, is_new

    def _answer(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asked[loop] = math.inf
