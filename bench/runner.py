"""Goes through the scenarios: every round asks every contender once, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from bench.accounting import Machine
from bench.load.remote import LoadError
from bench.measurement import NOISY
from bench.process import NotReadyError
from bench.results import Results
from bench.scenario import Scenario

ROUNDS = 3
SUBJECT = "tailrace"


def run(
    scenarios: Sequence[Scenario],
    results: Results,
    *,
    rounds: int,
    wanted: Sequence[str],
    calm_seconds: float,
    say: Callable[[str], None],
) -> None:
    """``wanted`` are the contenders to ask; empty means all. ``rounds`` of 0 leaves their number to the scenarios.
    Says a line for each measurement.

    Fills ``results`` as it goes, so that who is interrupted has what was measured.

    Before each one, waits up to ``calm_seconds`` for the machine to have nothing else to do.
    """
    left_behind: dict[tuple[str, str], str] = {}
    for scenario in scenarios:
        names = [name for name in scenario.contenders if not wanted or name in wanted]
        if not names:
            continue
        say(f"\n{scenario.name}: {scenario.title}")
        asked_rounds = rounds or scenario.rounds or ROUNDS
        asked = []
        for name in names:
            reason = scenario.missing(name)
            if reason is not None:
                reason = f"not installed: {reason}"
            elif (scenario.ladder, name) in left_behind:
                reason = f"saturated at {left_behind[scenario.ladder, name]}; not asked"
            if reason is None:
                asked.append(name)
            else:
                results.absent[scenario.name, name] = reason
                say(f"  {name:20} {reason}")
        for _ in range(asked_rounds):
            for name in list(asked):
                _await_calm(calm_seconds)
                _measure(scenario, name, results, say)
                if (scenario.name, name) in results.absent:
                    asked.remove(name)
        for name in asked:
            saturated = [flag for flag in results.flags(scenario.name, name) if flag.startswith("saturated")]
            # Tailrace itself is asked on every rung: its own failing is what must not be hidden.
            if scenario.ladder and name != SUBJECT and saturated == [f"saturated {asked_rounds}/{asked_rounds}"]:
                left_behind[scenario.ladder, name] = scenario.name


def _await_calm(limit_seconds: float) -> None:
    deadline = time.monotonic() + limit_seconds
    while time.monotonic() < deadline:
        before = Machine.now()
        time.sleep(1)
        after = Machine.now()
        busy = after.busy_seconds - before.busy_seconds + after.stolen_seconds - before.stolen_seconds
        if busy / (after.at_seconds - before.at_seconds) < NOISY:
            return


def _measure(scenario: Scenario, name: str, results: Results, say: Callable[[str], None]) -> None:
    started = time.monotonic()
    try:
        measurement = scenario.measure(name)
    except (LoadError, NotReadyError, OSError) as error:  # OSError: a server or a load process has died
        results.absent[scenario.name, name] = f"failed: {error}"
        say(f"  {name:20} failed: {error}")
        return
    results.add(measurement)
    shown = ", ".join(
        f"{figure} {measurement.figures[figure]:.4g}"
        for figure in (
            "gateway_us_per_delivery",
            "delivered_per_second",
            "events_per_second",
            "p50_ms",
            "p99_ms",
            "kb_per_viewer",
            "us_per_event",
            "redis_us_per_event",
            "jobs_per_second",
            "us_per_job",
            "us_at_1",
            "us_per_entry",
            "slowdown_percent",
            "generator_cores",
            "others_cores",
        )
        if figure in measurement.figures
    )
    say(f"  {name:20} {shown} {' '.join(measurement.flags)} [{time.monotonic() - started:.0f} s]")
