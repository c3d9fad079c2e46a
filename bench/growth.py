"""What follows from the measured figures: how cost grows, and what a million viewers would take. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bench.results import Results

_MILLION: Final = 1_000_000
_US: Final = "gateway_us_per_delivery"

_GROWTH: Final = (
    ("one viewer an execution", tuple(f"many-{runs}-{rate}k" for runs in (500, 5000) for rate in (5, 20, 50))),
    ("one execution for all", ("fanout-500-100", "fanout-500-250", "fanout-2000-50")),
)


def growth(results: Results) -> list[tuple[str, str, str, str]]:
    """Rows of (load, scenario, gateway µs a delivery, events a read) of Tailrace, as far as measured."""
    rows = []
    for load, scenarios in _GROWTH:
        for scenario in scenarios:
            cost = results.figure(scenario, "tailrace", _US)
            batch = results.figure(scenario, "tailrace", "events_per_read")
            if cost is not None and batch is not None:
                rows.append((load, scenario, cost.text(1), batch.text(1)))
    return rows


@dataclass(frozen=True, slots=True)
class _Need:
    """``worth`` turns the median of a measured figure into what a million viewers take."""

    load: str
    scenario: str
    contender: str
    figure: str
    sum_text: str
    worth: Callable[[float], str]


def _cores(deliveries_per_second: float) -> Callable[[float], str]:
    return lambda us: f"{us * deliveries_per_second / 1e6:,.1f} cores"


_NEEDS: Final = (
    _Need(
        "memory of idle SSE viewers of one execution",
        "idle-sse-5000-one",
        "tailrace",
        "kb_per_viewer",
        "KB/viewer x 1,000,000",
        lambda kb: f"{kb:,.1f} GB",
    ),
    _Need(
        "memory of idle SSE viewers, each of its own execution",
        "idle-sse-5000-own",
        "tailrace",
        "kb_per_viewer",
        "KB/viewer x 1,000,000",
        lambda kb: f"{kb:,.1f} GB",
    ),
    _Need(
        "memory of idle WebSocket viewers, each of its own execution",
        "idle-ws-2000-own",
        "tailrace-ws",
        "kb_per_viewer",
        "KB/viewer x 1,000,000",
        lambda kb: f"{kb:,.1f} GB",
    ),
    _Need(
        "keeping idle viewers (heartbeats, checks)",
        "idle-sse-5000-own",
        "tailrace",
        "idle_us_per_viewer_second",
        "µs/viewer/s x 1,000,000",
        _cores(_MILLION),
    ),
    _Need(
        "all watch one execution of 1 ev/s: gateways",
        "fanout-500-100",
        "tailrace",
        _US,
        "µs/delivery x 1,000,000 deliveries/s",
        _cores(_MILLION),
    ),
    _Need(
        "each watches its own execution of 0.1 ev/s: gateways",
        "many-5000-20k",
        "tailrace",
        _US,
        "µs/delivery x 100,000 deliveries/s",
        _cores(_MILLION / 10),
    ),
    _Need(
        "the same: Redis (several, or a cluster)",
        "many-5000-20k",
        "tailrace",
        "redis_us_per_event",
        "µs/event x 100,000 ev/s",
        _cores(_MILLION / 10),
    ),
    _Need(
        "all come back within a minute, 100 events behind",
        "storm-1000x1000-own",
        "tailrace",
        "events_per_second",
        "100,000,000 events / 60 s / events/s of a gateway",
        lambda rate: f"{_MILLION * 100 / 60 / rate:,.1f} gateways",
    ),
)


def million(results: Results) -> list[tuple[str, str, str, str, str]]:
    """Rows of (load, scenario, measured median, sum, result), as far as measured."""
    rows = []
    for need in _NEEDS:
        measured = results.figure(need.scenario, need.contender, need.figure)
        if measured is not None:
            rows.append(
                (need.load, need.scenario, f"{measured.median:,.1f}", need.sum_text, need.worth(measured.median))
            )
    return rows
