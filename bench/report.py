"""Tables for people: Markdown, from results. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bench.budgets import BUDGETS
from bench.results import Results
from bench.scenario import Scenario

_PACED: Final = (
    ("gateway_us_per_delivery", "gateway CPU µs/delivery", 1),
    ("redis_us_per_event", "Redis CPU µs/event", 1),
    ("delivered_per_second", "delivered/s", 0),
    ("p50_ms", "p50 ms", 2),
    ("p99_ms", "p99 ms", 2),
    ("events_per_read", "events/read", 1),
    ("generator_us_per_delivery", "generator µs/delivery", 1),
    ("generator_cores", "generator cores", 2),
    ("others_cores", "other load, cores", 2),
)
_COLUMNS: Final = {
    "many": _PACED,
    "fanout": _PACED,
    "embedded": _PACED,
    "latency": _PACED,
    "pair": _PACED,
    "processes": _PACED,
    "idle": (
        ("kb_per_viewer", "KB/viewer", 1),
        ("gateway_memory_mb", "gateway MB", 0),
        ("idle_us_per_viewer_second", "CPU µs/viewer/s", 1),
    ),
    "storm": (
        ("events_per_second", "events/s", 0),
        ("seconds", "seconds", 2),
        ("gateway_us_per_delivery", "gateway CPU µs/event", 2),
        ("generator_us_per_delivery", "generator µs/event", 2),
        ("generator_cores", "generator cores", 2),
        ("gateway_memory_mb", "gateway MB", 0),
    ),
    "emit": (
        ("us_per_event", "producer CPU µs/event", 1),
        ("redis_us_per_event", "Redis CPU µs/event", 1),
        ("events_per_second", "events/s", 0),
    ),
    "append": (("redis_us_per_event", "Redis CPU µs/event", 2), ("events_per_second", "events/s", 0)),
    "pipeline": (
        ("slowdown_percent", "slowdown %", 2),
        ("with_seconds", "seconds with", 3),
        ("without_seconds", "seconds without", 3),
        ("cpu_us_per_event", "CPU µs/event", 1),
    ),
    "jobs": (
        ("jobs_per_second", "jobs/s", 0),
        ("us_per_job", "worker CPU µs/job", 0),
        ("redis_us_per_job", "Redis CPU µs/job", 0),
        ("submitted_per_second", "submitted/s", 0),
    ),
    "link": (
        ("us_per_entry", "CPU µs/entry", 2),
        ("us_per_turn", "CPU µs/reading", 1),
        ("entries_per_second", "entries/s", 0),
    ),
    "stages": (
        ("us_at_1", "µs/entry, batches of 1", 2),
        ("us_at_10", "of 10", 2),
        ("us_at_500", "of 500", 2),
    ),
}


def tables(scenarios: Sequence[Scenario], results: Results) -> str:
    """One table for each scenario: medians over the rounds, with min and max."""
    return "\n".join(_table(scenario, results) for scenario in scenarios)


def _table(scenario: Scenario, results: Results) -> str:
    measured_here = {figure for rounds in results.of(scenario.name) for figure in rounds.figures}
    columns = [column for column in _COLUMNS[scenario.group] if column[0] in measured_here]
    bare = results.figure(scenario.name, "bare", "gateway_us_per_delivery") is not None
    headings = ["contender", *(heading for _, heading, _ in columns), *(["x bare"] if bare else []), "remarks"]
    rows = []
    for name in scenario.contenders:
        if (scenario.name, name) in results.rounds:
            cells = [name]
            for figure, _, digits in columns:
                measured = results.figure(scenario.name, name, figure)
                cells.append(measured.text(digits) if measured else "")
            if bare:
                ratio = results.ratio("gateway_us_per_delivery", (scenario.name, name), (scenario.name, "bare"))
                cells.append(ratio.text(2) if ratio else "")
            cells.append(", ".join(results.flags(scenario.name, name)))
            rows.append(cells)
        elif (scenario.name, name) in results.absent:
            reason = results.absent[scenario.name, name].splitlines()[0]
            rows.append([name, *[""] * (len(headings) - 2), reason])
    return f"### {scenario.name}: {scenario.title}\n\n{table(headings, rows)}"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join([_row(headings), _row(["---"] * len(headings)), *map(_row, rows)]) + "\n"


def verdicts(results: Results) -> str:
    """Every budget with what was measured; 'not measured' is not 'holds'."""
    rows = []
    for budget in BUDGETS:
        figure = budget.figure
        measured = figure.measured(results)
        holds = budget.holds(results)
        rows.append(
            [
                budget.row,
                budget.text,
                f"{budget.sense} {budget.limit:g} {figure.unit}",
                f"{measured.text(figure.digits)} {figure.unit}" if measured else "",
                {True: "holds", False: "DOES NOT HOLD", None: "not measured"}[holds],
            ]
        )
    return table(["budget", "of what", "limit", "measured", "verdict"], rows)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
