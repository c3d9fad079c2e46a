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
        str | None, typer.Option("--reason", metavar="TEXT", help="Why; stands in its ending for all to see.")
    ] = None,
    grace: Annotated[
        float,
        typer.Option("--grace", metavar="SECONDS", min=0, max=86_400, help="So long may it take to stop by itself."),
    ] = 10.0,
    wait: WaitSeconds = 0.0,
    *,
    as_json: AsJson = False,
) -> None:
    """Cancel an execution, on whichever host it runs.

    One that is queued ends at once. One that runs is told to stop, and ended by force when it has not within --grace.
    Without --wait the command returns as soon as the request is in the log, where it stands whatever dies. With it,
    exit code 0 says that the execution has ended, and the line how: it may have completed before it heard of this.

    \b
    Examples:
      tailrace cancel nightly-7
      tailrace cancel nightly-7 --reason 'wrong input' --grace 60 --wait 90
      tailrace ps --pipeline import --json | jq -r .execution_id | xargs -n1 tailrace cancel
    """  # noqa: D301 - \b keeps typer from joining the lines
    from tailrace.cli.actions.control import cancelling, run_errand  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.cli.processes.signals import run_orderly  # noqa: PLC0415 - see tailrace.cli.app

    errand = cancelling(execution_id, reason=reason, grace_seconds=grace)
    gateways = gateways_of(gateway, redis_url)
    run_orderly(run_errand(execution_id, errand, gateways, redis_url, wait_seconds=wait, as_json=as_json))
