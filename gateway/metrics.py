"""What Prometheus is told of one gateway, beside what it is told of every process with a bus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tailrace.bus.ops.metrics import BusMetrics
from tailrace.gateway.context import GatewayContext

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
    "streams_deferred",
    "tail_disconnects",
    "tail_reconnects",
    "primary_switches",
    "viewer_lags",
    "wire_errors",
)


def metrics_of(gateway: GatewayContext) -> BusMetrics:
    return BusMetrics(gateway.bus.counters, always=ALWAYS, more=_OfGateway(gateway))


class _OfGateway(Collector):
    def __init__(self, gateway: GatewayContext) -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Metric]:
        hub, activity = self._gateway.hub, self._gateway.activity
        yield CounterMetricFamily(
            "tailrace_deliveries", "Entries that viewers were brought past, times viewers", hub.deliveries
        )
        viewers = GaugeMetricFamily("tailrace_viewers", "Live subscriptions", labels=["of"])
        viewers.add_metric(["executions"], hub.viewers)
        viewers.add_metric(["activity"], activity.viewers)
        yield viewers
        yield GaugeMetricFamily("tailrace_watched_executions", "Executions that are watched here", hub.topics)
        yield GaugeMetricFamily("tailrace_draining", "1 once it was told to stop", int(self._gateway.draining))
        yield GaugeMetricFamily(
            "tailrace_direct_writes",
            "0 where viewers are written to by the server's send alone",
            int(self._gateway.stepped is None),
        )
        tail = GaugeMetricFamily("tailrace_tail", "1 for the way in which Redis is watched", labels=["mode"])
        tail.add_metric([hub.tail_mode], 1)
        yield tail
