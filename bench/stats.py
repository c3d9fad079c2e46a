"""Medians with their spread, and percentiles. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median


@dataclass(frozen=True, slots=True)
class Spread:
    """What several rounds gave: the median, and the least and the most."""

    median: float
    min: float
    max: float
    rounds: int

    def text(self, digits: int = 1) -> str:
        if self.rounds == 1:
            return f"{self.median:.{digits}f}"
        return f"{self.median:.{digits}f} ({self.min:.{digits}f}-{self.max:.{digits}f})"


def spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    return Spread(median(values), min(values), max(values), len(values))


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that is not below this share (0-1) of the others: nearest rank. 0 when empty."""
    if not ordered:
        return 0.0
    return ordered[max(1, ceil(len(ordered) * share)) - 1]
