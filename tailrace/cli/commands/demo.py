"""``tailrace demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", help="A text, Markdown, HTML or PDF file. [default: README.md]", show_default=False
        ),
    ] = None,
    *,
    stay: Annotated[bool, typer.Option("--stay", help="Keep all of it running afterwards, until Ctrl-C.")] = False,
) -> None:
    """See all of it work; a gateway is killed on the way.

    Starts an embedded Valkey, two gateways and a worker as processes of this machine, has a document processed while
    twenty viewers watch, kills a gateway with SIGKILL half way, and compares what every viewer got with the log. Exit
    code 0 only if nothing was lost or doubled.

    \b
    Examples:
      tailrace demo
      tailrace demo report.pdf
      tailrace demo --stay
    """  # noqa: D301 - \b keeps typer from joining the lines
    from rich.console import Console  # noqa: PLC0415 - see tailrace.cli.app

    from tailrace.cli.demo.run import run_demo  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.cli.processes.signals import run_orderly  # noqa: PLC0415 - see tailrace.cli.app

    raise typer.Exit(run_orderly(run_demo(file, stay=stay, console=Console())))
