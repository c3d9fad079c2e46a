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
    """Pause an execution.

    It stops at its next event or its next step, keeps its state, and keeps its place in the worker. Without --wait the
    command returns as soon as the request is in the log; with it, when the execution is paused.

    \b
    Examples:
      tailrace pause nightly-7 --wait 30
      tailrace pause nightly-7 --redis-url redis://10.0.0.5:6379/0
    """  # noqa: D301 - \b keeps typer from joining the lines
    from tailrace.cli.actions.control import pausing, send_control  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.cli.processes.signals import run_orderly  # noqa: PLC0415 - see tailrace.cli.app

    control = pausing(execution_id)
    gateways = gateways_of(gateway, redis_url)
    run_orderly(send_control(execution_id, control, gateways, redis_url, wait_seconds=wait, as_json=as_json))
