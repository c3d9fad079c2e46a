"""Waits between attempts grow, are bounded, and never fall in step."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailrace.bus.model.retry import Backoff

BACKOFF = Backoff(first_seconds=0.05, most_seconds=5.0)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_never_nothing_and_never_over_the_most(attempt: int, chance: float) -> None:
    delay = BACKOFF.delay_seconds(attempt, lambda: chance)
    assert 0.005 <= delay <= 5.0


@given(st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_the_same_chance_waits_longer_with_every_attempt(attempt: int, chance: float) -> None:
    assert BACKOFF.delay_seconds(attempt, lambda: chance) <= BACKOFF.delay_seconds(attempt + 1, lambda: chance)


@given(st.integers(1, 100))
def test_the_jitter_spans_nine_tenths_of_the_ceiling(attempt: int) -> None:
    shortest, longest = (BACKOFF.delay_seconds(attempt, lambda c=chance: c) for chance in (0.0, 1.0))  # type: ignore[misc]
    assert longest == min(5.0, 0.05 * 2 ** (attempt - 1))
    assert shortest * 10 == longest or abs(shortest * 10 - longest) < 1e-9
