"""What is measured: the scenarios of the full run and of the quick one."""

from __future__ import annotations

from typing import Final

from bench import idle, paced, storm
from bench.scenario import Scenario

EVERYBODY: Final = ("tailrace", "tailrace-blocking", "bare", "nchan", "centrifugo", "handwritten")
_FANOUT: Final = (
    "tailrace",
    "tailrace-coalesce20",
    "tailrace-ws",
    "bare",
    "nchan",
    "centrifugo",
    "handwritten",
)
_KEEPERS: Final = ("tailrace", "nchan", "centrifugo", "handwritten")


def many(runs: int, rate: int, seconds: float, contenders: tuple[str, ...] = EVERYBODY) -> Scenario:
    load = paced.Load(f"many-{runs}-{rate // 1000}k", runs, runs, rate, seconds)
    return Scenario(
        load.scenario,
        "many",
        f"{runs} runs, one viewer each, {rate:,} ev/s",
        contenders,
        lambda contender: paced.measure(contender, load),
        ladder=f"many-{runs}",
    )


def fanout(viewers: int, rate: int, seconds: float, contenders: tuple[str, ...] = _FANOUT) -> Scenario:
    load = paced.Load(f"fanout-{viewers}-{rate}", 1, viewers, rate, seconds)
    return Scenario(
        load.scenario,
        "fanout",
        f"{viewers} viewers of one run, {rate} ev/s",
        contenders,
        lambda contender: paced.measure(contender, load),
        ladder=f"fanout-{viewers}",
    )


def latency(seconds: float, contenders: tuple[str, ...] = EVERYBODY) -> Scenario:
    load = paced.Load("latency-1k", 100, 100, 1000, seconds)
    return Scenario(
        load.scenario,
        "latency",
        "publish to viewer, 100 runs, one viewer each, 1,000 ev/s",
        contenders,
        lambda contender: paced.measure(contender, load),
    )


def pair(rate: int, seconds: float) -> Scenario:
    load = paced.Load(f"pair-500-{rate // 1000}k", 500, 500, rate, seconds)
    return Scenario(
        load.scenario,
        "pair",
        f"two gateways against one, 500 runs, one viewer each, {rate:,} ev/s",
        ("tailrace", "tailrace-pair"),
        lambda contender: paced.measure(contender, load),
    )


def waiting(
    viewers: int, own_runs: bool, seconds: float, contenders: tuple[str, ...] = _KEEPERS, wire: str = "sse"
) -> Scenario:
    name = f"idle-{wire}-{viewers}-{'own' if own_runs else 'one'}"
    load = idle.Waiting(name, viewers, own_runs, seconds)
    return Scenario(
        name,
        "idle",
        f"{viewers} idle {'SSE' if wire == 'sse' else 'WebSocket'} viewers, "
        + ("each of its own run" if own_runs else "all of one run"),
        contenders,
        lambda contender: idle.measure(contender, load),
    )


def resuming(viewers: int, missed: int, own_runs: bool, contenders: tuple[str, ...] = _KEEPERS) -> Scenario:
    name = f"storm-{viewers}x{missed}-{'own' if own_runs else 'one'}"
    load = storm.Storm(name, viewers, missed, own_runs)
    return Scenario(
        name,
        "storm",
        f"{viewers} viewers resume {missed} events back, " + ("each of its own run" if own_runs else "all of one run"),
        contenders,
        lambda contender: storm.measure(contender, load),
    )


def full() -> list[Scenario]:
    seconds = 5.0
    return [
        *(many(runs, rate, seconds) for runs in (500, 5000) for rate in (5_000, 20_000, 50_000)),
        *(fanout(viewers, rate, seconds) for viewers in (500, 2000) for rate in (100, 250)),
        latency(seconds),
        pair(20_000, seconds),
        pair(50_000, seconds),
        *(waiting(5000, own_runs, 10.0) for own_runs in (False, True)),
        *(waiting(2000, own_runs, 10.0, ("tailrace-ws",), wire="ws") for own_runs in (False, True)),
        resuming(1000, 1000, own_runs=False),
        resuming(1000, 1000, own_runs=True, contenders=("tailrace", "handwritten")),
    ]


def quick() -> list[Scenario]:
    """The same loads where they fit, fewer and shorter: a look, not a figure to quote."""
    seconds = 2.0
    return [
        many(500, 5_000, seconds, ("tailrace", "bare", "nchan", "handwritten")),
        many(500, 20_000, seconds, ("tailrace", "bare")),
        fanout(500, 100, seconds, ("tailrace", "bare", "nchan")),
        latency(seconds, ("tailrace",)),
        waiting(1000, own_runs=True, seconds=2.0, contenders=("tailrace",)),
        waiting(500, own_runs=True, seconds=2.0, contenders=("tailrace-ws",), wire="ws"),
        resuming(200, 1000, own_runs=False, contenders=("tailrace",)),
    ]
