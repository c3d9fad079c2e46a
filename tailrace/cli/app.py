"""All commands of ``tailrace``. A command's heavy imports stand in its body: ``--help`` must be quick."""

from __future__ import annotations

from typing import Annotated

import typer

from tailrace.cli import exit_codes
from tailrace.cli.commands.cancel import cancel
from tailrace.cli.commands.dead_letters import dead_letters
from tailrace.cli.commands.demo import demo
from tailrace.cli.commands.doctor import doctor
from tailrace.cli.commands.gateway import gateway
from tailrace.cli.commands.pause import pause
from tailrace.cli.commands.ps import ps
from tailrace.cli.commands.resume import resume
from tailrace.cli.commands.run import run
from tailrace.cli.commands.show import show
from tailrace.cli.commands.signal import signal
from tailrace.cli.commands.submit import submit
from tailrace.cli.commands.tail import tail
from tailrace.cli.commands.up import up
from tailrace.cli.commands.worker import worker

app = typer.Typer(
    name="tailrace",
    # The examples in the help are to be copied: they stay as they are written, without boxes around them.
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

_EPILOG = "\b\nExit codes:\n" + exit_codes.table()


@app.callback(invoke_without_command=True, epilog=_EPILOG)
def tailrace(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Resumable event streams of long-running work.

    \b
    First steps:
      tailrace demo                                 show everything at work, on this machine
      tailrace up                                   start Redis, a gateway and a worker here
      tailrace submit document path=$PWD/README.md --follow
    """  # noqa: D301 - \b keeps typer from joining the lines
    if version:
        from importlib.metadata import version as version_of  # noqa: PLC0415 - seldom needed

        typer.echo(f"tailrace {version_of('tailrace')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


for command in (demo, up, submit, tail, ps, show, cancel, pause, resume, signal, run, gateway, worker, doctor):
    app.command()(command)
app.command("dead-letters")(dead_letters)
