"""``tailrace up``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def up(
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Where the gateway listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Which port; 0 takes a free one.")] = 8080,
    directory: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Where the data is kept.", file_okay=False)
    ] = Path(".tailrace"),
    pipelines: Annotated[
        list[str] | None,
        typer.Option(
            "--pipelines", metavar="MODULE:ATTRIBUTE", help="Pipelines and steps of your own, as in my_app:registry."
        ),
    ] = None,
    *,
    allow_command: Annotated[
        bool, typer.Option("--allow-command", help="Let everyone who may submit jobs run ANY program as this user.")
    ] = False,
) -> None:
    """Run everything on this machine, without Docker.

    Starts an embedded Valkey, a gateway and a worker. The data is kept for the next start. Ctrl-C ends everything.

    \b
    Examples:
      tailrace up
      tailrace up --port 9000 --dir /var/lib/tailrace --allow-command
      tailrace up --pipelines my_app:registry
    """  # noqa: D301 - \b keeps typer from joining the lines
    from tailrace.cli.processes.signals import run_orderly  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.cli.processes.standalone import run_all  # noqa: PLC0415 - see tailrace.cli.app

    run_orderly(run_all(directory, host=host, port=port, allow_command=allow_command, pipelines=pipelines or ()))
