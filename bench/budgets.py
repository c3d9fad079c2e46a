"""The budgets of DESIGN section 14 as data, and what was measured against them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from bench.results import Results
from bench.stats import Spread


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a contender in a scenario; over another one of the same name, when ``over`` is given."""

    name: str
    scenario: str
    contender: str = "tailrace"
    over: tuple[str, str] | None = None
    unit: str = ""
    digits: int = 2

    def measured(self, results: Results) -> Spread | None:
        if self.over is not None:
            return results.ratio(self.name, (self.scenario, self.contender), self.over)
        return results.figure(self.scenario, self.contender, self.name)


@dataclass(frozen=True, slots=True)
class Budget:
    row: str
    text: str
    figure: Figure
    limit: float
    sense: Literal["at most", "at least"] = "at most"
    exact: bool = False
    """Whether it holds only without any gap or duplicate."""

    def holds(self, results: Results) -> bool | None:
        """None when it was not measured."""
        measured = self.figure.measured(results)
        if measured is None:
            return None
        if self.exact and not results.exact(self.figure.scenario, self.figure.contender):
            return False
        return measured.median <= self.limit if self.sense == "at most" else measured.median >= self.limit


_CPU: Final = "gateway_us_per_delivery"

BUDGETS: Final = (
    Budget("many runs", "CPU a delivery, 500 runs, 20k ev/s", Figure(_CPU, "many-500-20k", unit="µs"), 17),
    Budget("many runs", "p99 at 50k ev/s on one process", Figure("p99_ms", "many-500-50k", unit="ms"), 5),
    Budget(
        "many runs",
        "delivered of 50k ev/s on one process",
        Figure("delivered_per_second", "many-500-50k", unit="/s", digits=0),
        48_500,
        "at least",
    ),
    Budget(
        "many runs",
        "CPU a delivery, 5000 runs over 500 runs, 20k ev/s",
        Figure(_CPU, "many-5000-20k", over=("many-500-20k", "tailrace"), unit="x"),
        1.25,
    ),
    Budget(
        "against nchan",
        "highest rate over nchan's highest (50k over what nchan delivers of 20k)",
        Figure("delivered_per_second", "many-500-50k", over=("many-500-20k", "nchan"), unit="x"),
        6,
        "at least",
    ),
    Budget(
        "against nchan",
        "CPU a delivery over nchan's, 500 runs, 5k ev/s",
        Figure(_CPU, "many-500-5k", over=("many-500-5k", "nchan"), unit="x"),
        0.5,
    ),
    Budget(
        "fan-out",
        "CPU a delivery over bare send(), 500 viewers, 100 ev/s",
        Figure(_CPU, "fanout-500-100", over=("fanout-500-100", "bare"), unit="x"),
        1.6,
    ),
    Budget(
        "fan-out",
        "CPU a delivery over nchan's, 500 viewers, 100 ev/s",
        Figure(_CPU, "fanout-500-100", over=("fanout-500-100", "nchan"), unit="x"),
        1.0,
    ),
    Budget(
        "fan-out",
        "with 20 ms coalescing, CPU an event over bare send(), 500 viewers, 100 ev/s",
        Figure(_CPU, "fanout-500-100", "tailrace-coalesce20", over=("fanout-500-100", "bare"), unit="x"),
        0.5,
    ),
    Budget(
        "processes",
        "delivered by two over one, where one is saturated (of two cores that also carry the load)",
        Figure(
            "delivered_per_second",
            "processes-100k",
            "tailrace-processes",
            over=("processes-100k", "tailrace"),
            unit="x",
        ),
        1.7,
        "at least",
    ),
    Budget(
        "processes",
        "CPU a delivery of two over one's: 2 / this is what two cores of their own carry",
        Figure(_CPU, "processes-20k", "tailrace-processes", over=("processes-20k", "tailrace"), unit="x"),
        1.18,
    ),
    Budget(
        "own wire",
        "CPU a delivery over the built-in envelope's, 500 viewers, 100 ev/s",
        Figure(_CPU, "own-wire-1x500", "own-wire", over=("own-wire-1x500", "embedded"), unit="x"),
        1.15,
    ),
    Budget(
        "own wire",
        "CPU a delivery over the built-in envelope's, 500 runs, 5k ev/s",
        Figure(_CPU, "own-wire-500x1", "own-wire", over=("own-wire-500x1", "embedded"), unit="x"),
        1.5,
    ),
    Budget("idle viewer", "SSE, all of one execution", Figure("kb_per_viewer", "idle-sse-5000-one", unit="KB"), 12),
    Budget(
        "idle viewer", "SSE, each of its own execution", Figure("kb_per_viewer", "idle-sse-5000-own", unit="KB"), 12
    ),
    Budget(
        "idle viewer",
        "WebSocket, all of one execution",
        Figure("kb_per_viewer", "idle-ws-2000-one", "tailrace-ws", unit="KB"),
        20,
    ),
    Budget(
        "idle viewer",
        "WebSocket, each of its own execution",
        Figure("kb_per_viewer", "idle-ws-2000-own", "tailrace-ws", unit="KB"),
        20,
    ),
    Budget("publish to viewer", "p99 at 1k ev/s", Figure("p99_ms", "latency-1k", unit="ms"), 2),
    Budget(
        "resume storm",
        "1000 viewers of one execution x 1000 missed events, exact",
        Figure("events_per_second", "storm-1000x1000-one", unit="/s", digits=0),
        300_000,
        "at least",
        exact=True,
    ),
    Budget(
        "resume storm",
        "1000 viewers of 1000 executions x 1000 missed events, exact",
        Figure("events_per_second", "storm-1000x1000-own", unit="/s", digits=0),
        300_000,
        "at least",
        exact=True,
    ),
    Budget(
        "emit", "CPU of the producer an event, one execution", Figure("us_per_event", "emit-1", unit="µs", digits=1), 15
    ),
    Budget("emit", "CPU of the producer an event, 50 runs", Figure("us_per_event", "emit-50", unit="µs", digits=1), 15),
    Budget("emit", "slowdown of a typical pipeline", Figure("slowdown_percent", "pipeline", unit="%"), 1),
)
