"""``tailrace signal``."""

from __future__ import annotations

from typing import Annotated

import typer

from tailrace.cli.commands.options import AsJson, ExecutionId, Gateways, InsteadRedisUrl, WaitSeconds, gateways_of


def signal(  # noqa: PLR0917 - typer tells options from arguments by their annotation
    execution_id: ExecutionId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it waits for, as in 'approved'.")],
    data: Annotated[
        str | None,
        typer.Argument(metavar="[JSON]", help="What to give it: any JSON value, at most 64 KiB.", show_default=False),
    ] = None,
    gateway: Gateways = None,
    redis_url: InsteadRedisUrl = None,
    wait: WaitSeconds = 0.0,
    *,
    as_json: AsJson = False,
) -> None:
    """Give an execution something that it waits for.

    Such as a person's answer to a question that it asked (review.required names the signal). Without --wait the command
    returns as soon as the request is in the log; with it, when it has reached whoever runs the execution. Where an
    answer of the gateway is lost, it is not asked again: a second signal is another signal.

    \b
    Examples:
      tailrace signal nightly-7 approved
      tailrace signal nightly-7 answer '{"score": 0.9}' --wait 10
      tailrace signal nightly-7 answer '"yes"'
    """  # noqa: D301 - \b keeps typer from joining the lines
    from tailrace.cli.actions.control import run_errand, signalling  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.cli.processes.signals import run_orderly  # noqa: PLC0415 - see tailrace.cli.app

    errand = signalling(execution_id, name, data)
    gateways = gateways_of(gateway, redis_url)
    run_orderly(run_errand(execution_id, errand, gateways, redis_url, wait_seconds=wait, as_json=as_json))
