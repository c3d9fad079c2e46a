"""Puts the last full run into docs/performance.md, between two markers: no figure there is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench import growth, report
from bench.results import Results
from bench.scenario import Scenario

BEGIN: Final = "<!-- measured: begin -->"
END: Final = "<!-- measured: end -->"


def rewrite(page: Path, folder: Path, scenarios: Sequence[Scenario]) -> None:
    """Raises FileNotFoundError without a full run's results, ValueError for a page without the markers."""
    results = Results.from_json(json.loads((folder / "results.json").read_text()))
    machine = json.loads((folder / "machine.json").read_text())
    plots = [f"![{plot.stem}](../bench/results/{plot.name})" for plot in sorted(folder.glob("*.svg"))]
    written = section(scenarios, results, machine, plots)
    page.write_text(between_markers(page.read_text(), written))


def between_markers(text: str, section: str) -> str:
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} followed by {END}")
    return f"{before}{BEGIN}\n{section.strip()}\n{END}{after}"


def section(scenarios: Sequence[Scenario], results: Results, machine: dict[str, str], plots: Sequence[str] = ()) -> str:
    measured = [scenario for scenario in scenarios if results.of(scenario.name)]
    return "\n".join(
        [
            "Printed by `make bench`; `python -m bench --only NAME` prints a scenario again. Medians over the rounds",
            "(least-most). Remarks: *noisy* for rounds in which others used the machine; *saturated* for less than",
            "97 % of the load delivered; *LOST*, *DOUBLED*, *FOREIGN* for what the account of all viewers found.",
            "",
            report.table(["measured on", ""], list(machine.items())),
            "### Budgets",
            "",
            report.verdicts(results),
            "### How cost grows, measured",
            "",
            report.table(["load", "scenario", "gateway CPU µs/delivery", "events/read"], growth.growth(results)),
            "### What a million viewers take",
            "",
            report.table(["load", "from scenario", "measured", "sum", "needs"], growth.million(results)),
            "### Everything",
            "",
            *plots,
            "",
            report.tables(measured, results).replace("\n### ", "\n#### ").replace("### ", "#### ", 1),
        ]
    )
