"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from tailrace.cli.client.gateway_url import DEFAULT_GATEWAY, GatewayUrl, check_gateway_url
from tailrace.cli.errors import CliError

RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis-url",
        metavar="URL",
        help="redis://, rediss://, unix:// or embedded://DIR [default: $TAILRACE_REDIS_URL or redis://127.0.0.1:6379/0]",
    ),
]

Gateways = Annotated[
    list[str] | None,
    typer.Option(
        "--gateway",
        metavar="URL",
        help=f"A gateway; give it several times to fail over. [default: $TAILRACE_GATEWAY or {DEFAULT_GATEWAY}]",
    ),
]

InsteadRedisUrl = Annotated[
    str | None,
    typer.Option("--redis-url", metavar="URL", help="Use Redis directly, without a gateway."),
]


Processes = Annotated[
    int | None,
    typer.Option(
        "--processes", min=1, max=256, metavar="N", help="So many processes, to use so many cores. [default: 1]"
    ),
]

ExecutionId = Annotated[str, typer.Argument(metavar="ID", help="Which execution.")]

WaitSeconds = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0,
        max=86_400,
        help="How long to wait for the outcome. [default: 0]",
        show_default=False,
    ),
]

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def only_given(**options: Any) -> dict[str, Any]:
    """Leave out what the user did not give, so that the environment and the defaults count."""
    return {name: value for name, value in options.items() if value is not None}


def gateways_of(given: Sequence[str] | None, redis_url: str | None) -> list[GatewayUrl]:
    """The gateways to use; none when Redis was named. Raises CliError."""
    if given and redis_url:
        raise CliError("--gateway and --redis-url cannot be used together: give one of them")
    if redis_url:
        return []
    named = given or [url for url in os.environ.get("TAILRACE_GATEWAY", "").split(",") if url.strip()]
    return [check_gateway_url(url.strip()) for url in named or [DEFAULT_GATEWAY]]
