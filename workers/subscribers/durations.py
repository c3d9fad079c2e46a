"""Durations, counted into buckets. Pure."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, Final

# From a call of a function to a night's work.
BOUNDS_SECONDS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0)


class Durations:
    __slots__ = ("_counts", "count", "longest_seconds", "shortest_seconds", "total_seconds")

    def __init__(self) -> None:
        self.count = 0
        self.total_seconds = 0.0
        self.shortest_seconds: float | None = None
        self.longest_seconds: float | None = None
        self._counts = [0] * (len(BOUNDS_SECONDS) + 1)

    def add(self, seconds: float) -> None:
        self.count += 1
        self.total_seconds += seconds
        self.shortest_seconds = seconds if self.shortest_seconds is None else min(self.shortest_seconds, seconds)
        self.longest_seconds = seconds if self.longest_seconds is None else max(self.longest_seconds, seconds)
        self._counts[bisect_left(BOUNDS_SECONDS, seconds)] += 1

    @property
    def mean_seconds(self) -> float | None:
        return self.total_seconds / self.count if self.count else None

    def snapshot(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "mean": self.mean_seconds,
            "shortest": self.shortest_seconds,
            "longest": self.longest_seconds,
        }

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative counts by upper bound as Prometheus wants them, and the sum of all durations."""
        cumulative, count = [], 0
        for bound, more in zip((*map(str, BOUNDS_SECONDS), "+Inf"), self._counts, strict=True):
            count += more
            cumulative.append((bound, float(count)))
        return cumulative, self.total_seconds
