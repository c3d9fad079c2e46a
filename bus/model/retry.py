"""Waiting times between attempts. Pure: the randomness is an argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential, with full jitter, so that a thousand clients of one restarted Redis do not return in step.

    Rule: AWS Architecture Blog, "Exponential Backoff And Jitter" (full jitter).
    """

    first_seconds: float = 0.05
    most_seconds: float = 5.0

    def delay_seconds(self, attempt: int, random: Callable[[], float]) -> float:
        """Wait before attempt 1, 2, 3, …; never under a tenth of the ceiling, so that it is a wait at all."""
        ceiling = min(self.most_seconds, self.first_seconds * 2.0 ** min(attempt - 1, 30))
        return ceiling * (0.1 + 0.9 * random())
