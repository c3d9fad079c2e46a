"""Figures of durations: the same for whoever has seen the same."""

from __future__ import annotations

import random

from tailrace.bus.model.durations import Durations


def test_the_order_in_which_durations_came_makes_no_difference() -> None:
    chance = random.Random(7)
    seen = [chance.uniform(0, 10) for _ in range(1000)]
    one, other = Durations(), Durations()
    for seconds in seen:
        one.add(seconds)
    for seconds in reversed(seen):
        other.add(seconds)
    assert one.snapshot() == other.snapshot()
    assert abs(one.total_seconds - sum(seen)) < 1e-5
