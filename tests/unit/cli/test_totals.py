from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tailrace.cli.processes.totals import Page, Totals, read


def text(events: int, viewers: int, slow: int) -> str:
    return f"""# HELP tailrace_events_total events
# TYPE tailrace_events_total counter
tailrace_events_total {events}
# TYPE tailrace_viewers gauge
tailrace_viewers{{of="executions"}} {viewers}
# TYPE tailrace_lag_seconds histogram
tailrace_lag_seconds_bucket{{le="0.1"}} {events - slow}
tailrace_lag_seconds_bucket{{le="+Inf"}} {events}
tailrace_lag_seconds_count {events}
tailrace_lag_seconds_sum 2.5
"""


def shown(totals: Totals, living: dict[int, str]) -> dict[str, float]:
    page = Page(totals.page({number: read(text) for number, text in living.items()})).text().decode()
    return {
        " ".join([sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))]): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_each_process_is_told_by_its_number() -> None:
    page = shown(Totals(), {0: text(5, 2, 1), 1: text(7, 3, 0)})
    assert page["tailrace_events_total process=0"] == 5
    assert page["tailrace_events_total process=1"] == 7
    assert page["tailrace_viewers of=executions process=1"] == 3
    assert page["tailrace_lag_seconds_bucket le=0.1 process=0"] == 4
    assert page["tailrace_lag_seconds_bucket le=+Inf process=0"] == 5


def test_a_counter_goes_on_where_its_predecessor_ended_and_a_gauge_does_not() -> None:
    totals = Totals()
    totals.end(0, read(text(5, 2, 1)))
    totals.end(0, read(text(10, 9, 2)))
    page = shown(totals, {0: text(1, 4, 0)})
    assert page["tailrace_events_total process=0"] == 16
    assert page["tailrace_viewers of=executions process=0"] == 4
    assert page["tailrace_lag_seconds_bucket le=0.1 process=0"] == 13
    assert page["tailrace_lag_seconds_count process=0"] == 16
    assert page["tailrace_lag_seconds_sum process=0"] == 7.5


def test_what_was_counted_is_shown_while_nobody_has_the_number() -> None:
    totals = Totals()
    totals.end(1, read(text(5, 2, 1)))
    page = shown(totals, {0: text(1, 1, 0)})
    assert page["tailrace_events_total process=1"] == 5
    assert "tailrace_viewers of=executions process=1" not in page


def test_looking_twice_adds_nothing() -> None:
    totals = Totals()
    totals.end(0, read(text(5, 2, 1)))
    living = {0: text(1, 1, 0)}
    assert shown(totals, living) == shown(totals, living)
