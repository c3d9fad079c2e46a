"""Executions as a table. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from tailrace.cli.text.ages import age
from tailrace.cli.text.safe import one_line

STYLES: Final = {
    "queued": "yellow",
    "running": "green",
    "paused": "cyan",
    "cancelling": "magenta",
    "completed": "dim",
    "failed": "bold red",
    "cancelled": "dim red",
    "timed_out": "bold red",
}


def table_of(items: Sequence[dict[str, Any]], unix_seconds: float) -> Table:
    """Where there is no room, what stands on the right gives way: ids are to be copied."""
    tenants = any(item["tenant"] is not None for item in items)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(
        "ID", no_wrap=True, overflow="ignore", min_width=max([2, *(len(i["execution_id"]) for i in items)])
    )
    table.add_column("STATUS", no_wrap=True)
    table.add_column("PIPELINE", no_wrap=True)
    if tenants:
        table.add_column("TENANT", no_wrap=True)
    table.add_column("ATTEMPT", justify="right", no_wrap=True)
    table.add_column("AGE", justify="right", no_wrap=True)
    table.add_column("OWNER", no_wrap=True)
    for item in items:
        status = str(item["status"])
        cells = [
            Text(one_line(item["execution_id"])),
            Text(status, STYLES.get(status, "")),
            _cell(item["pipeline"]),
            *([_cell(item["tenant"])] if tenants else []),
            Text(str(item["attempt"])),
            Text(age(item["created"], unix_seconds)),
            _cell(item["owner"]),
        ]
        table.add_row(*cells)
    return table


def _cell(value: str | None) -> Text:
    return Text("-", "dim") if value is None else Text(one_line(value))
