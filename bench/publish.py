"""Writes what was measured to a folder: results.json, machine.json, table.md, and the plots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench import plot, report
from bench.results import Results
from bench.scenario import Scenario

_PLOTS: Final = (
    ("many-cpu", "many", "gateway_us_per_delivery", "Many executions: gateway CPU a delivery", "µs", 1),
    ("many-latency", "many", "p99_ms", "Many executions: publish to viewer, 99th percentile", "ms", 1),
    ("fanout-cpu", "fanout", "gateway_us_per_delivery", "Fan-out: gateway CPU a delivery", "µs", 1),
    ("idle-memory", "idle", "kb_per_viewer", "Idle viewers: memory of the gateway each", "KB", 1),
    ("storm-rate", "storm", "events_per_second", "Resume storm: events delivered", "/s", 0),
)


def write(folder: Path, scenarios: Sequence[Scenario], results: Results, machine: dict[str, str]) -> str:
    """Return the text of table.md, which is also what is printed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "machine.json").write_text(json.dumps(machine, indent=2, ensure_ascii=False) + "\n")
    (folder / "results.json").write_text(json.dumps(results.as_json(), indent=1) + "\n")
    text = "\n".join(
        [
            "# Measured by `python -m bench`",
            "",
            "Medians over the rounds (least-most). CPU from the operating system's accounting.",
            "",
            *(f"- {name}: {value}" for name, value in machine.items()),
            "",
            report.tables(scenarios, results),
            "## Budgets",
            "",
            report.verdicts(results),
        ]
    )
    (folder / "table.md").write_text(text)
    for name, group, figure, title, unit, digits in _PLOTS:
        values = []
        for scenario in scenarios:
            if scenario.group != group:
                continue
            for contender in scenario.contenders:
                measured = results.figure(scenario.name, contender, figure)
                if measured is None:
                    continue
                marked = [f for f in results.flags(scenario.name, contender) if not f.startswith("noisy")]
                values.append(plot.Bar(scenario.title, contender, measured, ", ".join(marked)))
        if values:
            (folder / f"{name}.svg").write_text(plot.bars(title, unit, values, digits=digits))
    return text
