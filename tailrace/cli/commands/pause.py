"""``tailrace pause``."""

from __future__ import annotations

from tailrace.cli.commands.options import AsJson, ExecutionId, Gateways, InsteadRedisUrl, WaitSeconds, gateways_of


def pause(
    execution_id: ExecutionId,
    gateway: Gateways = None,
    redis_url: InsteadRedisUrl = None,
    wait: WaitSeconds = 0.0,
    *,
    as_json: AsJson = False,
) -> None:
    """Have an execution stand still.

    It stops where it next says something or begins a step, keeps what it has, and holds its worker's place. Without
    --wait the command returns as soon as the request is in the log; with it, when the execution stands still.

    \b
    Examples:
      tailrace pause nightly-7 --wait 30
      tailrace pause nightly-7 --redis-url redis://10.0.0.5:6379/0
    """  # noqa: D301 - \b keeps typer from joining the lines
    from tailrace.cli.actions.control import pausing, run_errand  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.cli.processes.signals import run_orderly  # noqa: PLC0415 - see tailrace.cli.app

    errand = pausing(execution_id)
    gateways = gateways_of(gateway, redis_url)
    run_orderly(run_errand(execution_id, errand, gateways, redis_url, wait_seconds=wait, as_json=as_json))
