"""When to read again. Pure: the clock is an argument.

Reading each event as it comes gives the least delay, and costs a round trip each. When events come at several a
millisecond, the next turn waits until two milliseconds have passed since the last began, or one where they come so fast
that it pays: what comes meanwhile shares it. So a quiet bus answers at once, and a busy one reads in batches that grow
with its load.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# See docs/decisions/0010-turns-of-two-milliseconds.md.
TURN_SECONDS: Final = 0.002
# So many events in a turn pay for it: where they come sooner, it is shorter, down to this.
SHARING: Final = 40
SHORTEST_SECONDS: Final = 0.001
# So many events a second make it worth waiting: six of them share a turn.
BUSY_RATE: Final = 3000.0
_WEIGHT: Final = 0.05
_LONGEST_SECONDS: Final = 0.02


@dataclass(slots=True)
class Pace:
    """Follows the rate of events: moving averages of what a turn took, and of how far apart turns begin.

    The rate, unlike either of them, does not change by pacing.
    """

    last: float = 0.0
    apart_seconds: float = _LONGEST_SECONDS
    entries: float = 0.0

    def started(self, now: float) -> None:
        self.apart_seconds += (min(now - self.last, _LONGEST_SECONDS) - self.apart_seconds) * _WEIGHT
        self.last = now

    def took(self, entries: int) -> None:
        self.entries += (entries - self.entries) * _WEIGHT

    def wait_seconds(self, now: float) -> float:
        """How long the next turn should wait; 0 for not at all."""
        rate = self.entries / self.apart_seconds
        if rate < BUSY_RATE:
            return 0.0
        turn_seconds = min(TURN_SECONDS, max(SHORTEST_SECONDS, SHARING / rate))
        return max(0.0, self.last + turn_seconds - now)
