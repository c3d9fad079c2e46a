"""``tailrace signal``."""

from __future__ import annotations

from typing import Annotated

import typer

from tailrace.cli.commands.options import AsJson, ExecutionId, Gateways, InsteadRedisUrl, WaitSeconds, gateways_of


def signal(  # noqa: PLR0917 - typer tells options from arguments by their annotation
    execution_id: ExecutionId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The signal's name, as in 'approved'.")],
    data: Annotated[
        str | None,
        typer.Argument(metavar="[JSON]", help="Its data: any JSON value, at most 64 KiB.", show_default=False),
    ] = None,
    gateway: Gateways = None,
    redis_url: InsteadRedisUrl = None,
    wait: WaitSeconds = 0.0,
    *,
    as_json: AsJson = False,
) -> None:
    """Send an execution a signal that it waits for.

    For example a person's answer to its question (the event review.required names the signal). Without --wait the
    command returns as soon as the request is in the log; with it, when the owner of the execution has received it. If
    the gateway's answer is lost, the command does not retry, because a retry would be a second signal.

    \b
    Examples:
      tailrace signal nightly-7 approved
      tailrace signal nightly-7 answer '{"score": 0.9}' --wait 10
      tailrace signal nightly-7 answer '"yes"'
    """  # noqa: D301 - \b keeps typer from joining the lines
    from tailrace.cli.actions.control import send_control, signalling  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.cli.processes.signals import run_orderly  # noqa: PLC0415 - see tailrace.cli.app

    control = signalling(execution_id, name, data)
    gateways = gateways_of(gateway, redis_url)
    run_orderly(send_control(execution_id, control, gateways, redis_url, wait_seconds=wait, as_json=as_json))
