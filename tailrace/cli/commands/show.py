"""``tailrace show``."""

from __future__ import annotations

from typing import Annotated

import typer

from tailrace.cli.commands.options import Gateways, InsteadRedisUrl, gateways_of


def show(
    execution_id: Annotated[str, typer.Argument(metavar="ID", help="Which execution.")],
    gateway: Gateways = None,
    redis_url: InsteadRedisUrl = None,
    events: Annotated[int, typer.Option("--events", "-n", min=0, max=1000, help="So many of the newest events.")] = 10,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object: state, requests, page.")] = False,
) -> None:
    """Show how an execution stands, and why.

    Its state and who runs it, the steps whose outputs are kept for a take-over, what was asked of it and whether it
    has answered, and its newest events. 'tailrace tail' follows them.

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
