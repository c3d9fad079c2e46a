"""The figures: what they count, from when to when they measure, and that strangers cannot make them grow for ever."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tailrace.bus.model.cursor import Cursor
from tailrace.workers.handlers import Delivery, ExecutionMetrics
from tailrace.workers.handlers import execution_metrics as metrics

pytestmark = pytest.mark.anyio


class Story:
    """Events of executions, at times given in seconds."""

    def __init__(self) -> None:
        self.metrics = ExecutionMetrics()
        self._numbers: dict[str, int] = {}

    async def tell(self, run: str, seconds: float, event_type: str, step: str | None = None) -> None:
        number = self._numbers[run] = self._numbers.get(run, 0) + 1
        cursor = Cursor(1_000_000 + int(seconds * 1000), number)
        await self.metrics(Delivery(run, cursor, event_type, step, None, None))

    def missed(self, run: str, count: int) -> None:
        self._numbers[run] = self._numbers.get(run, 0) + count


@pytest.fixture
def story() -> Story:
    return Story()


def rates(story: Story) -> list[Any]:
    return [story.metrics.success_rate, story.metrics.completion_rate]


async def test_rates_and_times_change_with_the_events(story: Story) -> None:
    assert rates(story) == [None, None]
    for run in ("a", "b", "c"):
        await story.tell(run, 0, "execution.queued")
        await story.tell(run, 1, "execution.started")
    assert story.metrics.completion_rate == 0
    await story.tell("a", 3, "execution.completed")
    assert rates(story) == [1, pytest.approx(1 / 3)]
    await story.tell("b", 5, "execution.failed")
    assert rates(story) == [0.5, pytest.approx(2 / 3)]
    shown = story.metrics.snapshot()
    assert shown["executions"] == {
        "started": 3,
        "under_way": 1,
        "retries": 0,
        "completed": 1,
        "failed": 1,
        "cancelled": 0,
        "timed_out": 0,
    }
    assert shown["seconds_waiting"] == {"count": 3, "mean": 1.0, "shortest": 1.0, "longest": 1.0}
    assert shown["seconds_to_completion"] == {"count": 1, "mean": 3.0, "shortest": 3.0, "longest": 3.0}
    assert orjson.loads(orjson.dumps(shown)) == shown


async def test_steps_are_measured_from_their_start_to_their_ending(story: Story) -> None:
    for run, took in (("a", 2), ("b", 4)):
        await story.tell(run, 0, "execution.started")
        await story.tell(run, 1, "step.started", "fetch")
        await story.tell(run, 1.5, "step.started", "parse")
        await story.tell(run, 1 + took, "step.completed", "fetch")
        await story.tell(run, 7, "step.failed", "parse")
    steps = story.metrics.snapshot()["steps"]
    assert steps["fetch"] == {"count": 2, "mean": 3.0, "shortest": 2.0, "longest": 4.0}
    assert steps["parse"]["mean"] == 5.5
    assert story.metrics.steps_failed == 2


async def test_a_step_that_another_attempt_repeats_is_measured_from_its_second_start(story: Story) -> None:
    await story.tell("a", 0, "execution.started")
    await story.tell("a", 1, "step.started", "fetch")
    await story.tell("a", 10, "execution.retrying")
    await story.tell("a", 11, "execution.started")
    await story.tell("a", 12, "step.started", "fetch")
    await story.tell("a", 13, "step.completed", "fetch")
    assert story.metrics.snapshot()["steps"]["fetch"]["mean"] == 1.0
    assert (story.metrics.started, story.metrics.retries) == (2, 1)


async def test_who_came_late_measures_no_wrong_times(story: Story) -> None:
    story.missed("a", 5)
    await story.tell("a", 100, "step.completed", "fetch")
    await story.tell("a", 101, "execution.completed")
    assert story.metrics.success_rate == 1
    assert story.metrics.to_completion.count == 0
    assert story.metrics.snapshot()["steps"] == {}


async def test_what_a_gap_took_is_not_guessed(story: Story) -> None:
    await story.tell("a", 0, "execution.started")
    await story.metrics(Delivery("a", Cursor(1_000_000, 1), "stream.gap", None, None, {"reason": "trimmed"}))
    story.missed("a", 5)
    await story.tell("a", 9, "execution.completed")
    assert story.metrics.gaps == 1
    assert story.metrics.to_completion.count == 0


async def test_what_others_invent_is_bounded(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MAX_STEPS", 3)
    monkeypatch.setattr(metrics, "MAX_UNDER_WAY", 3)
    for number in range(10):
        await story.tell(f"run-{number}", 0, "step.started", f"s{number}")
        await story.tell(f"run-{number}", 1, "step.completed", f"s{number}")
    shown = story.metrics.snapshot()
    assert shown["steps"].keys() == {"s0", "s1", "s2", "(other)"}
    assert shown["executions"]["under_way"] == 3


async def test_prometheus_reads_its_text(story: Story) -> None:
    for run in ("a", "b"):
        await story.tell(run, 0, "execution.started")
        await story.tell(run, 0, "step.started", 'quo"te\n')
        await story.tell(run, 2, "step.completed", 'quo"te\n')
        await story.tell(run, 3, "execution.completed")
    samples: dict[tuple[str, Any], float] = {}
    for family in text_string_to_metric_families(story.metrics.prometheus()):
        for sample in family.samples:
            samples[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    assert samples["tailrace_executions_ended_total", (("status", "completed"),)] == 2
    assert samples["tailrace_execution_waiting_seconds_count", ()] == 0
    assert samples["tailrace_execution_seconds_count", ()] == 2
    assert samples["tailrace_execution_seconds_sum", ()] == 6
    assert samples["tailrace_execution_seconds_bucket", (("le", "1.0"),)] == 0
    assert samples["tailrace_execution_seconds_bucket", (("le", "5.0"),)] == 2
    assert samples["tailrace_step_seconds_sum", (("step", 'quo"te\n'),)] == 4
