"""`python -m bench`: see docs/performance.md."""

from __future__ import annotations

import argparse
import json
import resource
import signal
import sys
from pathlib import Path

from bench import docs, machine, plan, publish, runner
from bench.contenders import ALL
from bench.results import Results

_RESULTS = Path(__file__).parent / "results"
_PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Tailrace beside its alternatives.")
    parser.add_argument("--quick", action="store_true", help="under 90 seconds: a look, not figures to quote")
    parser.add_argument(
        "--only",
        metavar="SCENARIO",
        action="append",
        default=[],
        help="a scenario, by name or start of name; may be repeated",
    )
    parser.add_argument("--contender", metavar="NAME", action="append", default=[], help="the same of a contender")
    parser.add_argument("--rounds", type=int, default=0, help="default what each scenario needs; 1 with --quick")
    parser.add_argument(
        "--calm",
        type=float,
        default=0,
        metavar="SECONDS",
        help="before each measurement wait up to so long until nothing else uses the machine",
    )
    parser.add_argument("--list", action="store_true", help="name the scenarios and the contenders, and stop")
    parser.add_argument(
        "--docs", action="store_true", help="put the last full run into docs/performance.md once more, and stop"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()

    scenarios = plan.quick() if options.quick else plan.full()
    if options.list:
        for scenario in scenarios:
            print(f"{scenario.name:24} {scenario.title}: {', '.join(scenario.contenders)}")
        print()
        for contender in ALL.values():
            print(f"{contender.name:24} {contender.about}{_absence(contender.missing())}")
        return 0
    if options.docs:
        docs.rewrite(_PAGE, _RESULTS, plan.full())
        return 0
    if options.only:
        scenarios = [s for s in scenarios if any(s.name.startswith(only) for only in options.only)]
        if not scenarios:
            parser.error("no such scenario; --list names them")
    if unknown := set(options.contender) - {name for scenario in scenarios for name in scenario.contenders}:
        parser.error(f"{', '.join(sorted(unknown))}: no such contender in these scenarios; --list names them")

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that no server is left behind
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    described = machine.describe()
    results = Results()
    complete = False
    try:
        runner.run(
            scenarios,
            results,
            rounds=options.rounds or int(options.quick),
            wanted=options.contender,
            calm_seconds=options.calm,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
        complete = True
    finally:
        if not complete:
            publish.write(_RESULTS / "partial", scenarios, results, described)
    partial = options.only or options.contender
    folder = _RESULTS / "partial" if partial else _RESULTS / "quick" if options.quick else _RESULTS
    text = publish.write(folder, scenarios, results, described)
    if folder == _RESULTS:
        docs.rewrite(_PAGE, _RESULTS, scenarios)
    print(json.dumps({"machine": described, **results.as_json()}) if options.json else text)
    return 0


def _absence(reason: str | None) -> str:
    return "" if reason is None else f" [not installed: {reason}]"


if __name__ == "__main__":
    sys.exit(main())
