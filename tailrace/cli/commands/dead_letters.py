"""``tailrace dead-letters``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from tailrace.cli.commands.options import RedisUrl
from tailrace.cli.errors import CliError


class Action(StrEnum):
    LIST = "list"
    SHOW = "show"
    REQUEUE = "requeue"
    DROP = "drop"


def dead_letters(  # noqa: PLR0917 - typer tells options from arguments by their annotation
    action: Annotated[
        Action, typer.Argument(metavar="[list|show|requeue|drop]", help="What to do with them.", show_default=False)
    ] = Action.LIST,
    entries: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ENTRY]...", help="The ids, as the list shows them.", show_default=False),
    ] = None,
    redis_url: RedisUrl = None,
    gateway: Annotated[list[str] | None, typer.Option("--gateway", hidden=True)] = None,
    queue: Annotated[str | None, typer.Option("--queue", metavar="NAME", help="Only of this queue.")] = None,
    group: Annotated[
        str | None,
        typer.Option("--group", metavar="NAME", help="Events at which handlers of this group failed, and no jobs."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="list: how many per queue.")] = 50,
    *,
    everything: Annotated[bool, typer.Option("--all", help="requeue, drop: all of --queue.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List, requeue or drop failed jobs.

    A job becomes a dead letter when its workers died too often, when no worker can run it, or when it is not a valid
    job. 'requeue' submits it again under a new id and prints that id. Dead letters are read from Redis, not from a
    gateway.

    With --group, they are events at which a handler of that group failed for good; 'requeue' gives one to that handler
    once more.

    \b
    Examples:
      tailrace dead-letters
      tailrace dead-letters show 1760000000000-0
      tailrace dead-letters requeue 1760000000000-0 1760000000000-1
      tailrace dead-letters drop --all --queue imports
      tailrace dead-letters requeue --group mails 1760000000000-0
    """  # noqa: D301 - \b keeps typer from joining the lines
    from tailrace.cli.actions.dead_letters import drop_letters, list_letters, requeue_letters, show_letter  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.cli.actions.undelivered import of_group  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.cli.processes.signals import run_orderly  # noqa: PLC0415 - see tailrace.cli.app

    if gateway:
        raise CliError("--gateway: dead letters are not served by gateways; name Redis with --redis-url")
    chosen = entries or []
    if group is not None:
        if queue is not None:
            raise CliError("--queue and --group: name one of them")
        _check(action, chosen, group, everything=everything)
        raise typer.Exit(run_orderly(of_group(action, redis_url, group, chosen, limit=limit, as_json=as_json)))
    _check(action, chosen, queue, everything=everything)
    match action:
        case Action.LIST:
            run_orderly(list_letters(redis_url, queue, limit=limit, as_json=as_json))
        case Action.SHOW:
            run_orderly(show_letter(redis_url, queue, chosen[0], as_json=as_json))
        case Action.REQUEUE:
            raise typer.Exit(run_orderly(requeue_letters(redis_url, queue, chosen, as_json=as_json)))
        case Action.DROP:
            raise typer.Exit(run_orderly(drop_letters(redis_url, queue, chosen, as_json=as_json)))


def _check(action: Action, entries: list[str], queue: str | None, *, everything: bool) -> None:
    if action is Action.LIST and (entries or everything):
        raise CliError("list: takes no ENTRY and no --all; use --queue NAME and --limit N")
    if action is Action.SHOW and (len(entries) != 1 or everything):
        raise CliError("show: takes one ENTRY, as in 'tailrace dead-letters show 1760000000000-0'")
    if action in {Action.REQUEUE, Action.DROP}:
        if bool(entries) == everything:
            raise CliError(f"{action}: name each ENTRY, or give --all with --queue")
        if everything and queue is None:
            raise CliError(f"{action} --all: name the queue with --queue")
