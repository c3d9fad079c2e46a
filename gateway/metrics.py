"""What Prometheus is told of one gateway: everything is counted already, and only read when it is asked for."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

if TYPE_CHECKING:
    from gateway.context import Gateway

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
LAG_SECONDS: Final = 1.0
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
_LAG_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
# What somebody may want an alarm for is there from the start: a rate of nothing is no rate.
ALWAYS: Final = (
    "activity_lost",
    "append_retries",
    "appended_events",
    "dropped_entries",
    "gaps",
    "leases_lost",
    "publish_lost_events",
    "redis_disconnects",
    "replayed_events",
    "resumes",
    "slow_cuts",
    "streams_put_off",
    "tail_disconnects",
    "tail_reconnects",
    "viewer_lags",
)


class Metrics:
    """A registry of this gateway's own: several may live in one process."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._lag = Histogram(
            "tailrace_loop_lag_seconds",
            "How late the event loop comes to what is due, looked at once a second",
            buckets=_LAG_BUCKETS,
            registry=self._registry,
        )

    def text(self) -> bytes:
        return generate_latest(self._registry)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Measure the loop's lag meanwhile."""
        task = asyncio.create_task(self._measure_lag(), name="metrics:lag")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def collect(self) -> Iterator[Metric]:
        """What the registry asks for."""
        counters = self._gateway.bus.counters
        for name in sorted({*counters, *ALWAYS}):
            if _NAME.fullmatch(name):
                yield CounterMetricFamily(f"tailrace_{name}", name.replace("_", " "), counters[name])
        hub, activity = self._gateway.hub, self._gateway.activity
        viewers = GaugeMetricFamily("tailrace_viewers", "Live subscriptions", labels=["of"])
        viewers.add_metric(["executions"], hub.viewers)
        viewers.add_metric(["activity"], activity.viewers)
        yield viewers
        yield GaugeMetricFamily("tailrace_watched_executions", "Executions that are watched here", hub.topics)
        yield GaugeMetricFamily("tailrace_draining", "1 once it was told to stop", int(self._gateway.draining))
        tail = GaugeMetricFamily("tailrace_tail", "1 for the way in which Redis is watched", labels=["mode"])
        tail.add_metric([hub.tail_mode], 1)
        yield tail

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self._lag.observe(max(0.0, loop.time() - due))
