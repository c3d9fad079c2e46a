"""``tailrace resume``."""

from __future__ import annotations

from tailrace.cli.commands.options import AsJson, ExecutionId, Gateways, InsteadRedisUrl, WaitSeconds, gateways_of


def resume(
    execution_id: ExecutionId,
    gateway: Gateways = None,
    redis_url: InsteadRedisUrl = None,
    wait: WaitSeconds = 0.0,
    *,
    as_json: AsJson = False,
) -> None:
    """Resume a paused execution.

    Without --wait the command returns as soon as the request is in the log; with it, when the execution runs again.

    \b
    Examples:
      tailrace resume nightly-7
      tailrace resume nightly-7 --wait 30 --json
    """  # noqa: D301 - \b keeps typer from joining the lines
    from tailrace.cli.actions.control import resuming, send_control  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.cli.processes.signals import run_orderly  # noqa: PLC0415 - see tailrace.cli.app

    control = resuming(execution_id)
    gateways = gateways_of(gateway, redis_url)
    run_orderly(send_control(execution_id, control, gateways, redis_url, wait_seconds=wait, as_json=as_json))
