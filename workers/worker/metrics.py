"""What Prometheus is told of one worker, over a port that answers also while a step blocks the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client import start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tailrace.bus.bus import Bus
from tailrace.bus.errors import InvalidInputError
from tailrace.bus.ops.metrics import BusMetrics
from tailrace.bus.ops.supervised import supervisor
from tailrace.workers.builtin.document.parsers import SERVER
from tailrace.workers.definition.answer_check import ANSWER_CHECKS
from tailrace.workers.worker.worker import Worker

ALWAYS: Final = (
    "append_retries",
    "appended_events",
    "attempts_abandoned",
    "heal_errors",
    "heartbeat_errors",
    "jobs_claimed",
    "jobs_taken",
    "jobs_unusable",
    "lease_renew_retries",
    "leases_lost",
    "publish_lost_events",
    "publish_waits",
    "redis_disconnects",
    "tail_disconnects",
    "worker_outages",
)


class _OfWorker(Collector):
    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("tailrace_worker_running", "Executions under way here", len(self._worker.running))
        concurrency = self._worker.settings.concurrency
        yield GaugeMetricFamily("tailrace_worker_concurrency", "Executions at a time, at most", concurrency)
        yield CounterMetricFamily(
            "tailrace_documents_given_up", "Documents that met a limit, or crashed their parser", SERVER.given_up
        )
        yield CounterMetricFamily(
            "tailrace_answer_checks_given_up", "Answers whose check met a limit", ANSWER_CHECKS.given_up
        )


@asynccontextmanager
async def serving_metrics(bus: Bus, worker: Worker) -> AsyncGenerator[str | None, None]:
    """Serve ``/metrics`` meanwhile, where the settings name a port; gives the URL.

    Raises InvalidInputError when nothing can listen there.
    """
    host, port = worker.settings.metrics_host, worker.settings.metrics_port
    metrics = BusMetrics(bus.counters, always=ALWAYS, more=_OfWorker(worker))
    if supervisor() is not None:
        # It serves those of all its processes.
        async with metrics.running():
            yield None
        return
    if port is None:
        yield None
        return
    try:
        server, thread = start_http_server(port, host, metrics.registry)
    except OSError as error:
        sentence = f"cannot listen on {host}:{port} ({error.strerror or error}); name another port, or 0 for a free one"
        raise InvalidInputError("metrics_port", sentence) from error
    try:
        async with metrics.running():
            yield f"http://{host}:{server.server_port}/metrics"
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        await asyncio.to_thread(thread.join)
