"""Medians, percentiles and verdicts: what is printed must follow from what was measured."""

from __future__ import annotations

import json

import pytest

from bench.budgets import BUDGETS, Budget, Figure
from bench.contenders import ALL
from bench.docs import BEGIN, END, between_markers
from bench.growth import growth, million
from bench.measurement import Account, Measurement, flags
from bench.plan import full, quick
from bench.plot import Bar, bars
from bench.report import tables, verdicts
from bench.results import Results
from bench.stats import Spread, percentile, spread


def measured(scenario: str, contender: str, account: Account | None = None, **figures: float) -> Measurement:
    account = account or Account()
    return Measurement(scenario, contender, figures, account, flags(account))


def test_the_percentile_is_the_nearest_rank() -> None:
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile(range(1, 11), 0.99) == 10
    assert percentile([7], 0.5) == 7
    assert percentile([], 0.5) == 0


def test_a_spread_is_the_median_with_the_least_and_the_most() -> None:
    assert spread([3, 1, 2]) == Spread(2, 1, 3, 3)
    assert spread([]) is None


def test_a_ratio_is_taken_round_by_round() -> None:
    results = Results()
    for ours, theirs in ((10, 5), (30, 10)):
        results.add(measured("s", "tailrace", cpu=ours))
        results.add(measured("s", "bare", cpu=theirs))
    assert results.ratio("cpu", ("s", "tailrace"), ("s", "bare")) == Spread(2.5, 2, 3, 2)


def test_a_round_in_which_the_other_used_nothing_has_no_ratio() -> None:
    results = Results()
    for theirs in (0, 5):
        results.add(measured("s", "tailrace", cpu=10))
        results.add(measured("s", "bare", cpu=theirs))
    assert results.ratio("cpu", ("s", "tailrace"), ("s", "bare")) == Spread(2, 2, 2, 1)


@pytest.mark.parametrize(("value", "holds"), [(9.0, True), (10.0, True), (10.1, False)])
def test_a_budget_holds_up_to_its_limit(value: float, holds: bool) -> None:
    results = Results()
    results.add(measured("s", "tailrace", p99_ms=value))
    assert Budget("r", "t", Figure("p99_ms", "s"), 10).holds(results) is holds


def test_a_budget_that_asks_for_exactness_fails_on_one_lost_event() -> None:
    budget = Budget("r", "t", Figure("rate", "s"), 10, "at least", exact=True)
    results = Results()
    results.add(measured("s", "tailrace", rate=20))
    assert budget.holds(results) is True
    results.add(measured("s", "tailrace", Account(lost=1), rate=20))
    assert budget.holds(results) is False


def test_what_was_not_measured_has_no_verdict() -> None:
    assert all(budget.holds(Results()) is None for budget in BUDGETS)
    assert verdicts(Results()).count("not measured") == len(BUDGETS)


def test_every_budget_speaks_of_a_scenario_and_contender_that_the_full_run_measures() -> None:
    asked = {(scenario.name, contender) for scenario in full() for contender in scenario.contenders}
    for budget in BUDGETS:
        assert (budget.figure.scenario, budget.figure.contender) in asked
        assert budget.figure.over is None or budget.figure.over in asked


def test_every_contender_that_serves_viewers_exists() -> None:
    served = [
        scenario
        for scenario in full() + quick()
        if scenario.group not in {"emit", "append", "pipeline", "jobs", "link", "stages"}
    ]
    assert {name for scenario in served for name in scenario.contenders} <= set(ALL)


def test_every_group_of_a_plan_has_a_table() -> None:
    for scenario in full() + quick():
        assert scenario.name in tables([scenario], Results())


def test_who_loses_or_doubles_events_is_marked() -> None:
    assert flags(Account(lost=2, gaps=1, duplicates=4)) == ("LOST 3", "DOUBLED 4")


def test_an_overloaded_generator_is_marked() -> None:
    assert flags(Account(), generator_share=0.86) == ("generator-bound",)


def test_a_contender_that_is_not_installed_stands_in_the_table_with_the_reason() -> None:
    scenario = full()[0]
    results = Results()
    results.add(measured(scenario.name, "tailrace", gateway_us_per_delivery=1.0))
    results.absent[scenario.name, "centrifugo"] = "not installed: no binary"
    assert "| centrifugo |" in tables([scenario], results)
    assert "not installed: no binary" in tables([scenario], results)


def test_a_plot_names_every_bar_and_escapes_it() -> None:
    drawn = bars("a < b", "µs", [Bar("g", "tailrace", Spread(2, 1, 3, 3)), Bar("g", "bare", Spread(1, 1, 1, 3))])
    assert "a &lt; b" in drawn
    assert drawn.count("<rect") == 3


def test_results_come_back_from_their_file_as_they_were() -> None:
    results = Results()
    results.add(measured("s", "tailrace", Account(lost=1), cpu=1.5))
    results.absent["s", "centrifugo"] = "not installed"
    assert Results.from_json(json.loads(json.dumps(results.as_json()))) == results


def test_the_docs_take_figures_between_their_markers_only() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert between_markers(page, "new\n") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"


def test_a_page_without_markers_is_left_alone() -> None:
    with pytest.raises(ValueError, match="measured: begin"):
        between_markers("no markers", "new")


def test_a_million_viewers_are_a_million_times_the_measured_figure() -> None:
    results = Results()
    results.add(measured("idle-sse-5000-own", "tailrace", kb_per_viewer=12.0, idle_us_per_viewer_second=2.0))
    needs = {load: needed for load, _, _, _, needed in million(results)}
    assert needs == {
        "memory of idle SSE viewers, each of its own execution": "12.0 GB",
        "keeping idle viewers (heartbeats, checks)": "2.0 cores",
    }


def test_every_sum_for_a_million_is_made_from_a_scenario_that_the_full_run_measures() -> None:
    asked = {scenario.name for scenario in full()}
    everything = Results()
    for name in asked:
        figures = dict.fromkeys(
            (
                *("kb_per_viewer", "idle_us_per_viewer_second", "gateway_us_per_delivery"),
                *("redis_us_per_event", "events_per_second", "events_per_read"),
            ),
            1.0,
        )
        everything.add(measured(name, "tailrace", Account(), **figures))
        everything.add(measured(name, "tailrace-ws", Account(), **figures))
    assert len(million(everything)) == 8
    assert len(growth(everything)) == 9
