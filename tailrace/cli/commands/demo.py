"""``tailrace demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", help="A text, Markdown, HTML or PDF file. [default: a sample text]", show_default=False
        ),
    ] = None,
    *,
    stay: Annotated[bool, typer.Option("--stay", help="Keep everything running afterwards, until Ctrl-C.")] = False,
) -> None:
    """Show Tailrace at work; a gateway is killed half way.

    Starts an embedded Valkey, two gateways and a worker on this machine. The worker processes a document while twenty
    viewers watch. One gateway is killed with SIGKILL half way. Then what every viewer got is compared with the log.
    Exit code 0 means that nothing was lost and nothing came twice.

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
