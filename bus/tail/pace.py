"""When to read again. Pure: the clock is an argument.

Reading each event as it comes gives the least delay, and costs a round trip each. When turns follow each other faster
than one a millisecond, the next one waits until a millisecond has passed since the last began: what comes meanwhile
shares it. So a quiet bus answers at once, and a busy one reads in batches that grow with its load.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TURN_SECONDS: Final = 0.001
# Paced turns are one TURN_SECONDS apart or more; a little above it, pacing ends by itself when the load does.
BUSY_SECONDS: Final = 0.0013
_WEIGHT: Final = 0.1
_LONGEST_SECONDS: Final = 0.02


@dataclass(slots=True)
class Pace:
    """Follows how far apart turns begin, as a moving average."""

    last: float = 0.0
    apart_seconds: float = _LONGEST_SECONDS

    def started(self, now: float) -> None:
        apart = min(now - self.last, _LONGEST_SECONDS)
        self.apart_seconds += (apart - self.apart_seconds) * _WEIGHT
        self.last = now

    def wait_seconds(self, now: float) -> float:
        """How long the next turn should wait; 0 for not at all."""
        if self.apart_seconds > BUSY_SECONDS:
            return 0.0
        return max(0.0, self.last + TURN_SECONDS - now)
