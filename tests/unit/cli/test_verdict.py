from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.cli.demo.verdict import Fingerprint, Latency, Seen, Verdict, fingerprint, judge

LOG = [fingerprint(f"1-{n}", "log", None, "ts", {"n": n}) for n in range(1, 6)]


def verdict_on(
    *viewers: Sequence[Fingerprint], resumes: int = 1, status: str = "completed", killed: bool = True
) -> Verdict:
    seen = [Seen(list(events), resumes=resumes) for events in viewers]
    return judge(LOG, seen, status=status, gateway_killed=killed)


def test_viewers_that_got_the_log_are_a_good_verdict() -> None:
    verdict = verdict_on(LOG, LOG)

    assert verdict.good
    assert verdict.delivered == 10
    assert "all 2 viewers got exactly the log" in verdict.sentence()


@pytest.mark.parametrize(
    ("got", "figures"),
    [
        pytest.param(LOG[:-1], (1, 0, 0), id="the ending lost"),
        pytest.param(LOG[1:], (1, 0, 0), id="the beginning lost"),
        pytest.param([], (5, 0, 0), id="nothing"),
        pytest.param([*LOG, LOG[-1]], (0, 1, 0), id="doubled"),
        pytest.param([*LOG[:2], *LOG], (0, 2, 0), id="replayed"),
        pytest.param([LOG[1], LOG[0], *LOG[2:]], (0, 0, 1), id="out of order"),
        pytest.param([*LOG[:-1], LOG[-1]._replace(content=b"x")], (0, 0, 1), id="changed"),
        pytest.param([*LOG, fingerprint("1-9", "log", None, "ts", None)], (0, 0, 1), id="invented"),
    ],
)
def test_one_viewer_that_got_something_else_spoils_it(got: list[Fingerprint], figures: tuple[int, int, int]) -> None:
    verdict = verdict_on(LOG, got)

    assert (verdict.lost, verdict.doubled, verdict.wrong) == figures
    assert not verdict.good
    assert verdict.sentence().startswith("Not as promised")


@given(st.lists(st.sampled_from(LOG)))
def test_exact_means_the_very_same_sequence(got: list[Fingerprint]) -> None:
    assert verdict_on(got).exact == (got == LOG)


@pytest.mark.parametrize(
    ("verdict", "complaint"),
    [
        (verdict_on(LOG, status="failed"), "the execution is failed"),
        (verdict_on(LOG, killed=False), "before a gateway could be killed"),
        (verdict_on(LOG, resumes=0), "no viewer had to resume"),
        (verdict_on(), "there was nothing to compare"),
        (judge([], [Seen()], status="completed", gateway_killed=True), "there was nothing to compare"),
        (judge(LOG, [Seen(LOG, 1, gaps=1)], status="completed", gateway_killed=True), "1 gaps told"),
    ],
)
def test_a_good_verdict_needs_all_of_it(verdict: Verdict, complaint: str) -> None:
    assert not verdict.good
    assert complaint in verdict.sentence()


def test_the_executions_own_failure_is_what_is_said() -> None:
    verdict = judge(LOG, [Seen(LOG)], status="failed", gateway_killed=False, failure="The file is empty.")

    assert verdict.sentence() == "The file is empty."


def test_content_counts_and_the_order_of_its_members_does_not() -> None:
    one = fingerprint("1-1", "log", "s", "ts", {"a": 1, "b": 2})

    assert one == fingerprint("1-1", "log", "s", "ts", {"b": 2, "a": 1})
    for other in (
        ("log", "s", "ts", {"a": 1}),
        ("log", None, "ts", {"a": 1, "b": 2}),
        ("log", "s", "t2", {"a": 1, "b": 2}),
    ):
        assert one != fingerprint("1-1", *other)


def test_latencies_are_ranked_over_all() -> None:
    assert Latency.of(n / 1000 for n in range(100)) == (0.05, 0.099)
    assert str(Latency.of([])) == "- / -"
    assert str(Latency.of([0.0012])) == "1.2 ms / 1.2 ms"
