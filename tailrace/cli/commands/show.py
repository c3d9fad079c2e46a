"""``tailrace show``."""

from __future__ import annotations

from typing import Annotated

import typer

from tailrace.cli.commands.options import Gateways, InsteadRedisUrl, gateways_of


def show(
    execution_id: Annotated[str, typer.Argument(metavar="ID", help="Which execution.")],
    gateway: Gateways = None,
    redis_url: InsteadRedisUrl = None,
    events: Annotated[int, typer.Option("--events", "-n", min=0, max=1000, help="How many of the newest events.")] = 10,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object: state, requests, page.")] = False,
) -> None:
    """Show the state of an execution.

    Its status and owner, the steps whose outputs are kept, the requests to cancel, pause, resume or signal it and
    whether they were answered, and its newest events. 'tailrace tail' follows the events.

    \b
    Examples:
      tailrace show 019a5c3e-7d51-7c3a-9f5e-0b6f0a9d2c11
      tailrace show nightly-7 --events 50
      tailrace show nightly-7 --json | jq .state.status
    """  # noqa: D301 - \b keeps typer from joining the lines
    from tailrace.cli.actions.show import show_overview  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.cli.processes.signals import run_orderly  # noqa: PLC0415 - see tailrace.cli.app

    gateways = gateways_of(gateway, redis_url)
    run_orderly(show_overview(execution_id, gateways, redis_url, events=events, as_json=as_json))
