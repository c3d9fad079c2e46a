"""``tailrace run``."""

from __future__ import annotations

from typing import Annotated

import typer

from tailrace.cli.commands.options import RedisUrl


def run(
    command: Annotated[list[str], typer.Argument(metavar="-- CMD [ARG]...", help="The program and its arguments.")],
    redis_url: RedisUrl = None,
    execution_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The execution's id. [default: a new one]")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show the program's output and nothing else.")] = False,
) -> None:
    """Run a program here as an execution that can be watched.

    Its output is shown here as it comes, and its lines are events of the execution; there is no shell and no worker.
    On a terminal the program has a terminal, too, and keeps its colours and progress bars. The exit code is the
    program's own; 127 when there is no such program, 126 when it cannot be executed, 128 + n when signal n ended it:
    141 (SIGPIPE) when the reader of its output has gone.

    \b
    Examples:
      tailrace run -- pytest -v
      tailrace run --id nightly-7 --redis-url redis://10.0.0.5:6379/0 -- make all
    """  # noqa: D301 - \b keeps typer from joining the lines
    from tailrace.cli.actions.run import run_and_echo  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.cli.processes.signals import run_orderly  # noqa: PLC0415 - see tailrace.cli.app

    raise typer.Exit(run_orderly(run_and_echo(command, redis_url, execution_id, quiet=quiet)))
