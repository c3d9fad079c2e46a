"""``tailrace ps``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from tailrace.cli.commands.options import Gateways, InsteadRedisUrl, gateways_of
from tailrace.cli.errors import CliError


class StatusName(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


def ps(  # noqa: PLR0917 - typer tells options from arguments by their annotation
    gateway: Gateways = None,
    redis_url: InsteadRedisUrl = None,
    status: Annotated[
        list[StatusName] | None,
        typer.Option("--status", help="Only these; give it several times. [default: all that have not ended]"),
    ] = None,
    pipeline: Annotated[str | None, typer.Option("--pipeline", metavar="NAME", help="Only of this pipeline.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Only of this tenant.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Created since then, as in 90m, 2d or 2026-01-02.")
    ] = None,
    before: Annotated[
        str | None, typer.Option("--before", metavar="TIME", help="Created before then, as in 90m, 2d or 2026-01-02.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many at most.")] = 50,
    *,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Include those that have ended.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh every 2 s, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List executions, the newest first.

    Shows those that are queued, running, paused or being cancelled; with --all or --status also those that have ended.
    OWNER is the process that runs the execution: host and process id.

    \b
    Examples:
      tailrace ps
      tailrace ps --status failed --since 24h
      tailrace ps --pipeline document --all --limit 500 --json | jq -r .execution_id
      tailrace ps --watch --redis-url redis://10.0.0.5:6379/0
    """  # noqa: D301 - \b keeps typer from joining the lines
    import time  # noqa: PLC0415 - see tailrace.cli.app

    from tailrace.cli.actions.ps import list_executions, watch_executions  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.cli.client.executions import LIVE, ExecutionFilter  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.cli.processes.signals import run_orderly  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.cli.text.ages import point_in_time  # noqa: PLC0415 - see tailrace.cli.app

    if status and everything:
        raise CliError("--status and --all cannot be used together: give one of them")
    if watch and as_json:
        raise CliError("--watch and --json cannot be used together; programs follow GET /v1/activity")
    gateways = gateways_of(gateway, redis_url)
    now = time.time()
    wanted = ExecutionFilter(
        statuses=tuple(each.value for each in status) if status else () if everything else LIVE,
        pipeline=pipeline,
        tenant=tenant,
        after=None if since is None else point_in_time(since, now, option="--since"),
        before=None if before is None else point_in_time(before, now, option="--before"),
        limit=limit,
    )
    if watch:
        run_orderly(watch_executions(gateways, redis_url, wanted))
    else:
        run_orderly(list_executions(gateways, redis_url, wanted, as_json=as_json))
