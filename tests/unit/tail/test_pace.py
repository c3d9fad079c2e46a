"""A quiet tail reads at once; a busy one lets events share its turns, and nobody waits for longer than one takes."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tailrace.bus.tail.pace import SHORTEST_SECONDS, TURN_SECONDS, Pace

ROUND_TRIP_SECONDS = 0.0002


def turns(pace: Pace, arrivals: list[float]) -> list[tuple[float, list[float]]]:
    """Play a tail: each turn begins when something is ready and pace allows, and takes what has come until then."""
    done: list[tuple[float, list[float]]] = []
    now = 0.0
    waiting = list(reversed(arrivals))
    while waiting:
        now = max(now, waiting[-1])
        now += pace.wait_seconds(now)
        pace.started(now)
        taken = []
        while waiting and waiting[-1] <= now:
            taken.append(waiting.pop())
        done.append((now, taken))
        now += ROUND_TRIP_SECONDS
        pace.took(len(taken))
    return done


def poisson(rate: float, seconds: float, *, start: float = 0.0) -> list[float]:
    chance = random.Random(7)
    arrivals = [start + chance.expovariate(rate)]
    while arrivals[-1] < start + seconds:
        arrivals.append(arrivals[-1] + chance.expovariate(rate))
    return arrivals


def test_a_quiet_tail_reads_every_event_as_it_comes() -> None:
    waits = [begun - taken[0] for begun, taken in turns(Pace(), poisson(300, 5))]
    assert max(waits) < 3 * ROUND_TRIP_SECONDS


def test_a_busy_tail_lets_a_turn_take_its_time_and_nobody_waits_much_longer() -> None:
    played = turns(Pace(), poisson(20_000, 2))
    settled = [turn for turn in played if turn[0] > 0.5]
    apart = [after[0] - before[0] for before, after in pairwise(settled)]
    assert min(apart) > SHORTEST_SECONDS * 0.999
    assert sum(len(taken) for _, taken in settled) / len(settled) > 30
    assert max(begun - taken[0] for begun, taken in settled) < 2 * TURN_SECONDS


def test_the_busier_a_tail_is_the_shorter_are_its_turns_down_to_a_bound() -> None:
    shares = []
    for rate in (5_000, 20_000, 30_000, 50_000, 100_000):
        settled = [turn for turn in turns(Pace(), poisson(rate, 1)) if turn[0] > 0.5]
        apart = (settled[-1][0] - settled[0][0]) / (len(settled) - 1)
        shares.append(round(apart * 1000, 1))
    assert shares == sorted(shares, reverse=True)
    assert SHORTEST_SECONDS * 1000 <= shares[-1] < shares[0] <= TURN_SECONDS * 1000 * 1.2


def test_a_tail_that_was_busy_answers_at_once_again() -> None:
    pace = Pace()
    turns(pace, poisson(20_000, 1))
    later = turns(pace, poisson(50, 4, start=2.0))
    assert max(begun - taken[0] for begun, taken in later if begun > 3.0) < 3 * ROUND_TRIP_SECONDS


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 10_000)), max_size=60), st.floats(0, 10))
def test_no_turn_is_put_off_by_more_than_a_millisecond(history: list[tuple[float, int]], later: float) -> None:
    pace, now = Pace(), 0.0
    for apart, entries in history:
        now += apart
        pace.started(now)
        pace.took(entries)
    assert 0.0 <= pace.wait_seconds(now + later) <= TURN_SECONDS * 1.000001
