"""What Prometheus is told of a process with a bus: all is counted already, and only read when it is asked for."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from tailrace.bus.model.counters import Counters
from tailrace.bus.model.durations import Durations
from tailrace.bus.ops.supervised import supervisor

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
LAG_SECONDS: Final = 1.0
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
_LAG_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class BusMetrics:
    """A registry of one bus's own: several may live in one process."""

    def __init__(self, counters: Counters, *, always: Sequence[str], more: Collector) -> None:
        """``always`` names counters to alarm on: they are shown from the start, since a missing counter has no rate.

        ``more`` is collected beside what every process with a bus has.
        """
        self._counters = counters
        self._always = always
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self.registry.register(more)
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._lag = Histogram(
            "tailrace_loop_lag_seconds",
            "How late the event loop comes to what is due, looked at once a second",
            buckets=_LAG_BUCKETS,
            registry=self.registry,
        )

    def text(self) -> bytes:
        return generate_latest(self.registry)

    async def of_all(self) -> bytes:
        """Of this process, or of all that its supervisor has, each with the label ``process``.

        Raises TimeoutError when the supervisor does not answer.
        """
        ours = supervisor()
        return self.text() if ours is None else await ours.metrics_of_all()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Measure the loop's lag meanwhile, and show a supervisor what is counted."""
        ours = supervisor()
        task = asyncio.create_task(self._measure_lag(), name="metrics:lag")
        try:
            with nullcontext() if ours is None else ours.shown(self.text):
                yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def collect(self) -> Iterator[Metric]:
        """What the registry asks for."""
        counters = self._counters
        # A copy in one step: it may be a thread that asks, while the loop counts on.
        for name, count in sorted({**dict.fromkeys(self._always, 0), **counters}.items()):
            if _NAME.fullmatch(name):
                yield CounterMetricFamily(f"tailrace_{name}", name.replace("_", " "), count)
        yield _histogram(
            "tailrace_append_seconds", "How long appends to Redis took, a batch each", counters.append_seconds
        )
        yield _histogram(
            "tailrace_delivery_seconds",
            "From Redis taking an entry to its being handed on here; sampled",
            counters.delivery_seconds,
        )

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self._lag.observe(max(0.0, loop.time() - due))


def _histogram(name: str, text: str, durations: Durations) -> Metric:
    buckets, total = durations.buckets()
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=total)
