"""``tailrace worker``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli.commands.options import Processes, RedisUrl, only_given
from tailrace.cli.errors import CliError

if TYPE_CHECKING:
    from tailrace.bus import BusSettings
    from tailrace.workers import WorkerSettings


def worker(  # noqa: PLR0917 - typer tells options from arguments by their annotation
    redis_url: RedisUrl = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            "--queue",
            metavar="NAME",
            help="Take jobs from this queue; repeat it for several, in order of priority. [default: default]",
        ),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", min=1, max=1000, help="Executions at a time. [default: 8]")
    ] = None,
    processes: Processes = None,
    pipelines: Annotated[
        list[str] | None,
        typer.Option(
            "--pipelines", metavar="MODULE:ATTRIBUTE", help="Pipelines and steps of your own, as in my_app:registry."
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port",
            min=0,
            max=65535,
            metavar="PORT",
            help="Serve /metrics for Prometheus here; 0 takes a free one. [default: nowhere]",
        ),
    ] = None,
    document_roots: Annotated[
        list[Path] | None,
        typer.Option(
            "--document-root",
            metavar="DIR",
            exists=True,
            file_okay=False,
            resolve_path=True,
            help="Documents may be read from this folder; may be given more than once. [default: by value only]",
        ),
    ] = None,
    *,
    allow_command: Annotated[
        bool,
        typer.Option("--allow-command", help="Let everyone who may submit jobs run ANY program as this user."),
    ] = False,
) -> None:
    """Process work from the queues.

    Runs until SIGTERM or Ctrl-C, then lets current executions end. Every setting can also be given in the environment,
    as in TAILRACE_CONCURRENCY. Start as many workers as you like, on any host.

    \b
    Examples:
      tailrace worker --redis-url redis://10.0.0.5:6379/0
      tailrace worker --queue urgent --queue default --concurrency 2
      tailrace worker --processes 4 --concurrency 2
      tailrace worker --pipelines my_app.pipelines:registry
      tailrace worker --metrics-port 9464
      tailrace worker --document-root /srv/reports
      tailrace worker --allow-command
    """  # noqa: D301 - \b keeps typer from joining the lines
    import asyncio  # noqa: PLC0415 - see tailrace.cli.app

    from tailrace.bus import BusSettings  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.workers import WorkerSettings  # noqa: PLC0415 - see tailrace.cli.app

    settings = WorkerSettings(
        **only_given(
            queues=",".join(queue) if queue else None,
            concurrency=concurrency,
            processes=processes,
            pipelines=",".join(pipelines) if pipelines else None,
            metrics_port=metrics_port,
            document_roots=tuple(document_roots) if document_roots else None,
            allow_command=allow_command or None,
        )
    )
    bus_settings = BusSettings(**only_given(redis_url=redis_url))
    if settings.processes > 1:
        from tailrace.cli.processes.several import several_workers  # noqa: PLC0415 - see tailrace.cli.app

        several_workers(bus_settings, settings)
    else:
        asyncio.run(_work(bus_settings, settings))


def _exit_unstoppable(reason: str) -> None:
    """End the process, from the heartbeat's thread: its event loop cannot do it any more."""
    import os  # noqa: PLC0415 - see tailrace.cli.app
    import sys  # noqa: PLC0415 - see tailrace.cli.app

    from tailrace.cli.exit_codes import ExitCode  # noqa: PLC0415 - see tailrace.cli.app

    print(f"tailrace worker: {reason}; ending the process", file=sys.stderr, flush=True)
    os._exit(ExitCode.RUN_FAILED)


async def _work(bus_settings: BusSettings, settings: WorkerSettings) -> None:
    import os  # noqa: PLC0415 - see tailrace.cli.app

    from tailrace.bus import open_bus  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.bus.ops import logging as logs  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.bus.ops.service_manager import tell, watched  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.bus.ops.stop_signals import obeying  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.bus.ops.supervised import announce  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.cli.variables import warn_of_unknown  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.workers import RegistryInvalidError, Worker, registry_for  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.workers.worker.metrics import serving_metrics  # noqa: PLC0415 - see tailrace.cli.app

    logs.set_up(bus_settings.log_format)
    warn_of_unknown(os.environ)
    try:
        registry = registry_for(settings)
    except RegistryInvalidError as error:
        raise CliError(f"--pipelines: {error}") from error
    async with await open_bus(settings=bus_settings) as bus:
        worker = Worker(bus, registry, settings)
        worker.on_unstoppable = _exit_unstoppable

        def stop(_order: object) -> None:
            tell("STOPPING=1")
            worker.stop()

        with obeying(stop):
            async with watched(), serving_metrics(bus, worker) as metrics_url:
                announce(
                    f"worker ready for {', '.join(settings.queues)}",
                    f"pipelines {', '.join(registry.names)}",
                    f"prefix {bus.settings.prefix}",
                    *([] if metrics_url is None else [f"metrics at {metrics_url}"]),
                )
                await worker.run()
