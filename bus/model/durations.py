"""Durations, counted into buckets. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, Final

# From an append on the same host to one that waited for a Redis that was away.
OF_LATENCIES: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# From a call of a function to a night's work.
OF_WORK: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0)


class Durations:
    """``bounds`` are the buckets' upper ones, in seconds, rising."""

    __slots__ = ("_bounds", "_counts", "_total_ns", "count", "longest_seconds", "shortest_seconds")

    def __init__(self, bounds: Sequence[float] = OF_WORK) -> None:
        self._bounds = bounds
        self.count = 0
        # Whole numbers: the sum of floats depends on their order, and so two who have seen the same would differ.
        self._total_ns = 0
        self.shortest_seconds: float | None = None
        self.longest_seconds: float | None = None
        self._counts = [0] * (len(bounds) + 1)

    def add(self, seconds: float) -> None:
        self.count += 1
        self._total_ns += round(seconds * 1e9)
        self.shortest_seconds = seconds if self.shortest_seconds is None else min(self.shortest_seconds, seconds)
        self.longest_seconds = seconds if self.longest_seconds is None else max(self.longest_seconds, seconds)
        self._counts[bisect_left(self._bounds, seconds)] += 1

    @property
    def total_seconds(self) -> float:
        return self._total_ns / 1e9

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
        for bound, more in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            count += more
            cumulative.append((bound, float(count)))
        return cumulative, self.total_seconds
