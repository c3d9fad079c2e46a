"""How often an execution may be begun, and when again."""

from __future__ import annotations

import pytest

from tailrace.bus.model.submission import Submission
from tailrace.workers import Context, Pipeline, PipelineUnknownError, Registry, Step, WorkerLostError
from tailrace.workers.errors import InputInvalidError, OutputInvalidError
from tailrace.workers.worker.plan import AttemptPlan, plan_of


async def step(_: Context) -> None:
    pass


def plan(*, failures: int = 0, asked: int | None = None, **pipeline: float) -> AttemptPlan:
    return AttemptPlan(Pipeline("p", (Step("s", step),), **pipeline), {}, failures, asked)  # type: ignore[arg-type]


def most() -> float:
    return 1.0


@pytest.mark.parametrize(
    ("max_attempts", "failures", "asked", "allowed"),
    [(3, 0, None, 3), (3, 2, None, 5), (3, 0, 2, 2), (3, 2, 2, 2), (3, 0, 9, 3), (1, 4, None, 5)],
)
def test_a_failure_costs_no_lost_worker_and_a_wish_only_lowers(
    max_attempts: int, failures: int, asked: int | None, allowed: int
) -> None:
    made = plan(max_attempts=max_attempts, failures=failures, asked=asked)
    assert made.max_attempts == allowed
    made.check_attempt(allowed)
    with pytest.raises(WorkerLostError):
        made.check_attempt(allowed + 1)


@pytest.mark.parametrize(("lost", "words"), [(1, "once"), (3, "3 times")])
def test_who_is_lost_too_often_is_told_how_often_without_the_failures(lost: int, words: str) -> None:
    made = plan(max_attempts=lost, failures=4)
    with pytest.raises(WorkerLostError, match=words):
        made.check_attempt(lost + 4 + 1)


@pytest.mark.parametrize(
    ("max_attempts", "asked", "may"), [(3, None, True), (1, None, False), (3, 1, False), (1, 9, False), (2, 2, True)]
)
def test_what_must_not_be_begun_twice_is_not_handed_on_either(max_attempts: int, asked: int | None, may: bool) -> None:
    # Retries are for what failed, which says nothing about what was left half way.
    assert plan(max_attempts=max_attempts, asked=asked, retries=5, failures=2).may_be_repeated is may


def test_the_delay_doubles_with_each_failure_up_to_an_hour() -> None:
    delays = [
        plan(failures=failures, retries=99, retry_delay_seconds=2).retry_delay_seconds(ValueError(), failures + 1, most)
        for failures in (0, 1, 2, 3, 20)
    ]
    assert delays == [2, 4, 8, 16, 3600]


def test_a_first_delay_of_more_than_an_hour_is_kept() -> None:
    assert plan(retries=1, retry_delay_seconds=7200).retry_delay_seconds(ValueError(), 1, most) == 7200


def test_delays_are_spread() -> None:
    made = plan(retries=1, retry_delay_seconds=10)
    spread = [made.retry_delay_seconds(ValueError(), 1, lambda chance=chance: chance) for chance in (0.0, 0.5, 1.0)]  # type: ignore[misc]
    assert spread == [1.0, 5.5, 10.0]


@pytest.mark.parametrize(
    ("made", "error", "attempt"),
    [
        (plan(), ValueError(), 1),
        (plan(retries=2, failures=2), ValueError(), 3),
        (plan(retries=2, asked=1), ValueError(), 1),
        (plan(retries=2), InputInvalidError("n: no"), 1),
        (plan(retries=2), OutputInvalidError("s", "is too large"), 1),
    ],
    ids=["no retries", "all used", "asked for one", "its input", "its output"],
)
def test_some_failures_are_the_end(made: AttemptPlan, error: Exception, attempt: int) -> None:
    assert made.retry_delay_seconds(error, attempt, most) is None


def test_what_nobody_knows_has_no_plan() -> None:
    with pytest.raises(PipelineUnknownError):
        plan_of(Registry([]), Submission("e", "p", {}), failures=0)


def test_a_pipeline_that_its_input_decides_is_planned_by_what_it_decides() -> None:
    inner = Pipeline("inner", (Step("s", step),), max_attempts=7, retries=2)
    outer = Pipeline("outer", unfold=lambda given: (inner, given["inner"]))
    made = plan_of(Registry([outer]), Submission("e", "outer", {"inner": {"a": 1}}, max_attempts=5), failures=1)
    assert (made.pipeline, made.input_value, made.max_attempts) == (inner, {"a": 1}, 5)
