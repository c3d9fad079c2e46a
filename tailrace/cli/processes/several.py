"""``tailrace gateway`` and ``tailrace worker`` with ``--processes``: the supervisor's own process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from tailrace.bus import BusSettings, InvalidInputError
from tailrace.bus.ops import logging as logs
from tailrace.cli.errors import CliError
from tailrace.cli.exit_codes import ExitCode
from tailrace.cli.processes.supervisor import Plan, Supervisor
from tailrace.cli.variables import warn_of_unknown
from tailrace.gateway.asgi.listener import ListenError, bind
from tailrace.gateway.settings import GatewaySettings
from tailrace.workers import WorkerSettings

# Beyond the drain: what a gateway gives to other requests, and a worker to steps in threads; and a little.
_GATEWAY_GRACE_SECONDS: Final = 8.0
_WORKER_GRACE_SECONDS: Final = 25.0
_SCRAPE_SECONDS: Final = 10.0


def several_gateways(settings: GatewaySettings) -> None:
    """Until told to stop. Raises CliError."""
    # All of them together take as long as one alone would.
    drain_seconds = settings.drain_seconds / settings.processes
    with _reserved(settings.host, settings.port) as port:
        plan = Plan(
            "gateway",
            settings.processes,
            [*sys.argv[1:], "--port", str(port)],
            stop_seconds=drain_seconds + _GATEWAY_GRACE_SECONDS,
            in_turn=True,
            environment=lambda _: {"TAILRACE_DRAIN_SECONDS": f"{drain_seconds:g}"},
        )
        asyncio.run(Supervisor(plan).run())


def several_workers(bus_settings: BusSettings, settings: WorkerSettings) -> None:
    """Until told to stop. Raises CliError."""
    logs.set_up(bus_settings.log_format)
    warn_of_unknown(os.environ)

    def environment(number: int) -> Mapping[str, str]:
        # Consumers of one name would count as one.
        return {} if settings.worker_name is None else {"TAILRACE_WORKER_NAME": f"{settings.worker_name}-{number}"}

    plan = Plan(
        "worker",
        settings.processes,
        sys.argv[1:],
        stop_seconds=settings.drain_seconds + _WORKER_GRACE_SECONDS,
        in_turn=False,
        environment=environment,
    )
    asyncio.run(_run_workers(plan, settings))


async def _run_workers(plan: Plan, settings: WorkerSettings) -> None:
    supervisor = Supervisor(plan)
    with _serving_metrics(supervisor, settings.metrics_host, settings.metrics_port) as url:
        await supervisor.run(*([] if url is None else [f"metrics at {url}"]))


@contextlib.contextmanager
def _reserved(host: str, port: int) -> Iterator[int]:
    """A port that our processes, and no others, may listen on meanwhile. Raises CliError."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        raise CliError("a socket that the service manager hands over serves one process: leave --processes out")
    try:
        # Alone first: another supervisor's port could be shared as well, and nobody would notice.
        with bind(host, port) as alone:
            chosen = alone.getsockname()[1]
        with bind(host, chosen, shared=True):
            yield chosen
    except ListenError as error:
        raise CliError(str(error), ExitCode.PORT_IN_USE) from None


class _OfAll(Collector):
    """Asked for in a thread of the HTTP server's."""

    def __init__(self, supervisor: Supervisor, loop: asyncio.AbstractEventLoop) -> None:
        self._supervisor = supervisor
        self._loop = loop

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        return asyncio.run_coroutine_threadsafe(self._supervisor.metrics(), self._loop).result(_SCRAPE_SECONDS)


@contextlib.contextmanager
def _serving_metrics(supervisor: Supervisor, host: str, port: int | None) -> Iterator[str | None]:
    """Raises InvalidInputError when nothing can listen there."""
    if port is None:
        yield None
        return
    registry = CollectorRegistry()
    registry.register(_OfAll(supervisor, asyncio.get_running_loop()))
    try:
        server, _ = start_http_server(port, host, registry)
    except OSError as error:
        sentence = f"cannot listen on {host}:{port} ({error.strerror or error}); name another port, or 0 for a free one"
        raise InvalidInputError("metrics_port", sentence) from error
    try:
        yield f"http://{host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
