"""``tailrace submit``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tailrace.cli.actions.inputs import from_json, from_words
from tailrace.cli.commands.options import Gateways, InsteadRedisUrl, gateways_of
from tailrace.cli.errors import CliError


def submit(  # noqa: PLR0917 - typer tells options from arguments by their annotation
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="Which pipeline, as in 'document' or 'command'.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Its input; a value that is valid JSON is read as JSON.", show_default=False
        ),
    ] = None,
    input_json: Annotated[
        str | None, typer.Option("--input", metavar="JSON", help="Its input as a JSON object.")
    ] = None,
    input_file: Annotated[
        str | None, typer.Option("--input-file", metavar="FILE", help="Its input from a JSON file; - is stdin.")
    ] = None,
    gateway: Gateways = None,
    redis_url: InsteadRedisUrl = None,
    execution_id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="The execution's id; submitting the same again has no effect."),
    ] = None,
    queue: Annotated[str, typer.Option("--queue", metavar="NAME", help="Which workers may take it.")] = "default",
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show its events until it ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Submit work and print the execution's id.

    Paths in the input are absolute, on the worker's host. With --follow the exit code says how the execution ended, as
    with 'tailrace tail'.

    \b
    Examples:
      tailrace submit document path=$PWD/README.md --follow
      tailrace submit command --input '{"argv": ["make", "test"]}'
      cat input.json | tailrace submit document --input-file - --json
    """  # noqa: D301 - \b keeps typer from joining the lines
    import asyncio  # noqa: PLC0415 - see tailrace.cli.app

    from tailrace.cli.actions.tail import show  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.cli.client.submission import submit_work  # noqa: PLC0415 - see tailrace.cli.app

    given = _given(words or [], input_json, input_file)
    gateways = gateways_of(gateway, redis_url)

    async def work() -> int:
        submitted = await submit_work(
            pipeline, given, gateways=gateways, redis_url=redis_url, execution_id=execution_id, queue=queue
        )
        if not as_json:
            print(submitted, flush=True)
        elif not follow:
            print(f'{{"execution_id":"{submitted}"}}', flush=True)
        return await show(submitted, gateways, redis_url, as_json=as_json) if follow else 0

    raise typer.Exit(asyncio.run(work()))


def _given(words: list[str], input_json: str | None, input_file: str | None) -> dict[str, Any]:
    if sum(bool(way) for way in (words, input_json is not None, input_file is not None)) > 1:
        raise CliError("the input is given more than once: use one of KEY=VALUE, --input and --input-file")
    if input_json is not None:
        return from_json(input_json, "--input")
    if input_file is not None:
        return from_json(_read(input_file), f"--input-file {input_file}")
    return from_words(words)


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise CliError(f"--input-file: cannot read {file!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CliError(f"--input-file: {file!r} is not text in UTF-8") from None
