"""``tailrace doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from tailrace.cli.commands.options import RedisUrl, only_given

if TYPE_CHECKING:
    from tailrace.bus import BusSettings
    from tailrace.bus.doctor import Finding

_STYLES: Final = {"ok": "green", "warning": "yellow", "failure": "bold red"}


def doctor(
    redis_url: RedisUrl = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a finding.")] = False,
) -> None:
    """Check that Redis is suitable for Tailrace.

    Runs a whole execution and watches it, and checks version, role, eviction, memory, persistence, latency, clock and
    the limits of this host. It writes to executions of its own and deletes them afterwards. Exit code 1 when a check
    failed; a warning is not a failure.

    \b
    Examples:
      tailrace doctor --redis-url redis://10.0.0.5:6379/0
      tailrace doctor --json | jq 'select(.verdict != "ok")'
    """  # noqa: D301 - \b keeps typer from joining the lines
    import asyncio  # noqa: PLC0415 - see tailrace.cli.app
    import json  # noqa: PLC0415 - see tailrace.cli.app
    from dataclasses import asdict  # noqa: PLC0415 - see tailrace.cli.app

    from tailrace.bus import BusSettings  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.cli.exit_codes import ExitCode  # noqa: PLC0415 - see tailrace.cli.app

    findings = asyncio.run(_findings(BusSettings(**only_given(redis_url=redis_url))))
    if as_json:
        for finding in findings:
            print(json.dumps(asdict(finding)))
    else:
        _show(findings)
    failed = any(finding.verdict == "failure" for finding in findings)
    raise typer.Exit(ExitCode.RUN_FAILED if failed else ExitCode.OK)


async def _findings(settings: BusSettings) -> list[Finding]:
    from tailrace.bus import open_bus  # noqa: PLC0415 - see tailrace.cli.app
    from tailrace.bus.doctor import examine  # noqa: PLC0415 - see tailrace.cli.app

    async with await open_bus(settings=settings) as bus:
        return [finding async for finding in examine(bus)]


def _show(findings: list[Finding]) -> None:
    from rich.console import Console  # noqa: PLC0415 - see tailrace.cli.app
    from rich.table import Table  # noqa: PLC0415 - see tailrace.cli.app
    from rich.text import Text  # noqa: PLC0415 - see tailrace.cli.app

    table = Table("check", "verdict", "found, and what to do", box=None, pad_edge=False)
    for finding in findings:
        told = finding.found if finding.cure is None else f"{finding.found}\n-> {finding.cure}"
        # Text, not markup: what Redis says may hold brackets.
        table.add_row(finding.check, Text(finding.verdict, style=_STYLES[finding.verdict]), Text(told))
    Console(soft_wrap=False).print(table)
