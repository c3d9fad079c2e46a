"""``tailrace gateway``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from tailrace.cli.commands.options import Processes, RedisUrl, only_given


class TailKind(StrEnum):
    AUTO = "auto"
    TRACKING = "tracking"
    BLOCKING = "blocking"


def gateway(
    host: Annotated[
        str | None, typer.Option("--host", metavar="ADDRESS", help="Listen here. [default: 127.0.0.1]")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="Listen here; 0 takes a free one. [default: 8080]")
    ] = None,
    processes: Processes = None,
    redis_url: RedisUrl = None,
    tail: Annotated[
        TailKind | None, typer.Option("--tail", help="How streams are watched. [default: auto]", show_default=False)
    ] = None,
) -> None:
    """Serve executions over HTTP.

    Runs until SIGTERM or Ctrl-C, then sends its viewers to the other gateways. Every setting can also be given in the
    environment, as in TAILRACE_PORT. A gateway keeps no state: start as many as you like.

    \b
    Examples:
      tailrace gateway --redis-url redis://10.0.0.5:6379/0
      TAILRACE_DRAIN_SECONDS=30 tailrace gateway --port 8081
      tailrace gateway --processes 4
    """  # noqa: D301 - \b keeps typer from joining the lines
    import os  # noqa: PLC0415 - see tailrace.cli.app

    from tailrace.bus import BusSettings  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.bus.ops import logging as logs  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.cli.variables import warn_of_unknown  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.gateway.server import serve  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.gateway.settings import GatewaySettings  # noqa: PLC0415 - see tailrace.cli.app

    settings = GatewaySettings(**only_given(host=host, port=port, processes=processes))
    bus_settings = BusSettings(**only_given(redis_url=redis_url, tail=tail and tail.value))
    logs.set_up(bus_settings.log_format)
    warn_of_unknown(os.environ)
    if settings.processes > 1:
        from tailrace.cli.processes.several import several_gateways  # noqa: PLC0415 - see tailrace.cli.app

        several_gateways(settings)
        return
    raise typer.Exit(serve(settings, bus_settings))
