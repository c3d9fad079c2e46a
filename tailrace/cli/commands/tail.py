"""``tailrace tail``."""

from __future__ import annotations

from typing import Annotated

import typer

from tailrace.cli.commands.options import Gateways, InsteadRedisUrl, gateways_of


def tail(
    execution_id: Annotated[str, typer.Argument(metavar="ID", help="Which execution.")],
    gateway: Gateways = None,
    redis_url: InsteadRedisUrl = None,
    after: Annotated[
        str, typer.Option("--after", metavar="CURSOR", help="Begin after this event. [default: from the start]")
    ] = "",
    types: Annotated[str, typer.Option("--types", metavar="TYPES", help="Only these types, as in 'log,step.*'.")] = "",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show an execution's events as they come, until it ends.

    Resumes by itself when a gateway dies or the network fails, without losing or repeating an event.
    Exit code 0 when the execution completed, 1 when it failed, was cancelled or timed out.

    \b
    Examples:
      tailrace tail 019a5c3e-7d51-7c3a-9f5e-0b6f0a9d2c11
      tailrace tail nightly-7 --gateway http://10.0.0.1:8080 --gateway http://10.0.0.2:8080
      tailrace tail nightly-7 --types 'log,execution.*' --json | jq .data
    """  # noqa: D301 - \b keeps typer from joining the lines
    import asyncio  # noqa: PLC0415 - see tailrace.cli.app

    from tailrace.cli.actions.tail import show  # noqa: PLC0415 - see tailrace.cli.app

    gateways = gateways_of(gateway, redis_url)
    code = asyncio.run(show(execution_id, gateways, redis_url, after=after, types=types, as_json=as_json))
    raise typer.Exit(code)
