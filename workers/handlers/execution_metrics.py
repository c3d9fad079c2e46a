"""How executions go, in figures that change with every event."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import CollectorRegistry

from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.durations import Durations
from tailrace.bus.model.event import TERMINAL_TYPES
from tailrace.workers.handlers.delivery import GAP, Delivery

# Executions under way that are remembered, and steps that have figures of their own: both are invented by others.
MAX_UNDER_WAY: Final = 10_000
MAX_STEPS: Final = 500
OTHER_STEPS: Final = "(other)"

_STEP_ENDINGS: Final = frozenset({"step.completed", "step.failed"})


class _UnderWay:
    """``begun`` is None for an execution whose beginning was not seen: its time would be a wrong one."""

    __slots__ = ("begun", "queued", "steps")

    def __init__(self, begun: Cursor | None) -> None:
        self.begun = begun
        # Until it is begun for the first time.
        self.queued: Cursor | None = None
        self.steps: dict[str, Cursor] = {}


class ExecutionMetrics:
    """Counts executions by how they end, their times to completion, and how long each step takes.

    All times are Redis' own, of the entries' ids, so that no two clocks are compared. Every handler of events will do
    as its source; for Prometheus it is also a collector, which any registry takes: ``REGISTRY.register(metrics)``.
    Must be called in one event loop.
    """

    def __init__(self) -> None:
        self.started = 0
        self.retries = 0
        self.gaps = 0
        self.ended: dict[str, int] = {event_type.partition(".")[2]: 0 for event_type in sorted(TERMINAL_TYPES)}
        self.steps_failed = 0
        self.waiting = Durations()
        self.to_completion = Durations()
        self.steps: dict[str, Durations] = {}
        self._under_way: OrderedDict[str, _UnderWay] = OrderedDict()

    async def __call__(self, event: Delivery) -> None:
        if event.type == GAP:
            self.gaps += 1
            # What it missed may be the beginning of anything.
            self._under_way.pop(event.execution_id, None)
        elif event.type.startswith("execution."):
            self._of_execution(event)
        elif event.type.startswith("step.") and event.step is not None:
            self._of_step(event, event.step)

    @property
    def success_rate(self) -> float | None:
        """Completed executions of all that ended; None before the first."""
        ended = sum(self.ended.values())
        return self.ended["completed"] / ended if ended else None

    @property
    def completion_rate(self) -> float | None:
        """Ended executions of all that were seen; None before the first."""
        ended = sum(self.ended.values())
        seen = ended + len(self._under_way)
        return ended / seen if seen else None

    def snapshot(self) -> dict[str, Any]:
        """All figures as JSON."""
        return {
            "executions": {
                "started": self.started,
                "under_way": len(self._under_way),
                "retries": self.retries,
                **self.ended,
            },
            "success_rate": self.success_rate,
            "completion_rate": self.completion_rate,
            "seconds_waiting": self.waiting.snapshot(),
            "seconds_to_completion": self.to_completion.snapshot(),
            "steps": {name: durations.snapshot() for name, durations in self.steps.items()},
            "steps_failed": self.steps_failed,
            "gaps": self.gaps,
        }

    def prometheus(self) -> str:
        """All figures in Prometheus' text format."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry).decode()

    def collect(self) -> Iterator[Metric]:
        """What Prometheus' registries ask for."""
        yield CounterMetricFamily("tailrace_executions_started", "Attempts at executions begun", self.started)
        yield CounterMetricFamily("tailrace_executions_retried", "Attempts lost and begun again", self.retries)
        ended = CounterMetricFamily("tailrace_executions_ended", "Executions by their ending", labels=["status"])
        for status, count in self.ended.items():
            ended.add_metric([status], count)
        yield ended
        yield GaugeMetricFamily("tailrace_executions_under_way", "Executions seen and not ended", len(self._under_way))
        buckets, total = self.waiting.buckets()
        yield HistogramMetricFamily(
            "tailrace_execution_waiting_seconds",
            "From being queued to the first start",
            buckets=buckets,
            sum_value=total,
        )
        buckets, total = self.to_completion.buckets()
        yield HistogramMetricFamily(
            "tailrace_execution_seconds", "From the first event to completion", buckets=buckets, sum_value=total
        )
        steps = HistogramMetricFamily("tailrace_step_seconds", "From step.started to its ending", labels=["step"])
        for name, durations in self.steps.items():
            buckets, total = durations.buckets()
            steps.add_metric([name], buckets, total)
        yield steps
        yield CounterMetricFamily("tailrace_steps_failed", "Endings of steps in step.failed", self.steps_failed)
        yield CounterMetricFamily("tailrace_handled_gaps", "Gaps in the logs that were followed", self.gaps)

    def _of_execution(self, event: Delivery) -> None:
        run = self._seen(event)
        match event.type:
            case "execution.queued":
                run.queued = event.cursor
            case "execution.started":
                self.started += 1
                if run.queued is not None:
                    self.waiting.add(_seconds(run.queued, event.cursor))
                    run.queued = None
            case "execution.retrying":
                self.retries += 1
                run.steps.clear()
            case ending if ending in TERMINAL_TYPES:
                self.ended[ending.partition(".")[2]] += 1
                if ending == "execution.completed" and run.begun is not None:
                    self.to_completion.add(_seconds(run.begun, event.cursor))
                del self._under_way[event.execution_id]

    def _of_step(self, event: Delivery, step: str) -> None:
        run = self._seen(event)
        if event.type == "step.started":
            if len(run.steps) < MAX_STEPS:
                run.steps[step] = event.cursor
        elif event.type in _STEP_ENDINGS:
            self.steps_failed += event.type == "step.failed"
            begun = run.steps.pop(step, None)
            if begun is not None:
                self._of(step).add(_seconds(begun, event.cursor))

    def _of(self, step: str) -> Durations:
        if step not in self.steps and len(self.steps) >= MAX_STEPS:
            step = OTHER_STEPS
        return self.steps.setdefault(step, Durations())

    def _seen(self, event: Delivery) -> _UnderWay:
        run = self._under_way.get(event.execution_id)
        if run is None:
            begins = event.cursor.n == 1 or event.type in {"execution.queued", "execution.started"}
            run = self._under_way[event.execution_id] = _UnderWay(event.cursor if begins else None)
            if len(self._under_way) > MAX_UNDER_WAY:
                self._under_way.popitem(last=False)
        return run


def _seconds(begun: Cursor, ended: Cursor) -> float:
    return max(0, ended.ms - begun.ms) / 1000
