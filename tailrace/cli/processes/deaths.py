"""How often a process died lately."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

# What has died so often in such a time will not live the next time either.
MAX_DEATHS: Final = 5
DEATHS_SECONDS: Final = 60.0


class Deaths:
    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=MAX_DEATHS)

    @property
    def lately(self) -> int:
        now = asyncio.get_running_loop().time()
        return sum(now - time < DEATHS_SECONDS for time in self._times)

    def too_many(self) -> bool:
        """Count one more, and say whether another start would be in vain."""
        self._times.append(asyncio.get_running_loop().time())
        return self.lately == MAX_DEATHS
