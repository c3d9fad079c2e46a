"""``tailrace cancel``."""

from __future__ import annotations

from typing import Annotated

import typer

from tailrace.cli.commands.options import AsJson, ExecutionId, Gateways, InsteadRedisUrl, WaitSeconds, gateways_of


def cancel(  # noqa: PLR0917 - typer tells options from arguments by their annotation
    execution_id: ExecutionId,
    gateway: Gateways = None,
    redis_url: InsteadRedisUrl = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why; shown in the execution's last event.")
    ] = None,
    grace: Annotated[
        float,
        typer.Option("--grace", metavar="SECONDS", min=0, max=86_400, help="How long it may take to stop by itself."),
    ] = 10.0,
    wait: WaitSeconds = 0.0,
    *,
    as_json: AsJson = False,
) -> None:
    """Cancel an execution, on whichever host it runs.

    A queued execution ends at once. A running one is told to stop, and is ended by force after --grace. Without --wait
    the command returns as soon as the request is in the log, where it survives any crash. With --wait, exit code 0
    means that the execution has ended; the line says how: it may have completed before the request reached it.

    \b
    Examples:
      tailrace cancel nightly-7
      tailrace cancel nightly-7 --reason 'wrong input' --grace 60 --wait 90
      tailrace ps --pipeline import --json | jq -r .execution_id | xargs -n1 tailrace cancel
    """  # noqa: D301 - \b keeps typer from joining the lines
    from tailrace.cli.actions.control import cancelling, send_control  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.cli.processes.signals import run_orderly  # noqa: PLC0415 - see tailrace.cli.app

    control = cancelling(execution_id, reason=reason, grace_seconds=grace)
    gateways = gateways_of(gateway, redis_url)
    run_orderly(send_control(execution_id, control, gateways, redis_url, wait_seconds=wait, as_json=as_json))
