"""Events at which handlers of a group failed for good, to be looked at, tried again or dropped. Over Redis only."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from tailrace.bus import open_bus
from tailrace.bus.activity.undelivered import Undelivered, UndeliveredEvent
from tailrace.bus.model.cursor import Cursor, parse
from tailrace.cli.errors import CliError
from tailrace.cli.exit_codes import ExitCode
from tailrace.cli.explanation import explain
from tailrace.cli.text.ages import age
from tailrace.cli.text.lines import json_line
from tailrace.cli.text.safe import one_line, shortened
from tailrace.cli.text.terminal import console

MESSAGE_CHARS: Final = 200
_PAGE: Final = 100


async def of_group(
    action: str, redis_url: str | None, group: str, entry_ids: Sequence[str], *, limit: int, as_json: bool
) -> int:
    """List, show, requeue or drop; all of the group where none is named. Raises BusError, CliError."""
    async with await open_bus(redis_url) as bus:
        undelivered = bus.undelivered(group)
        match action:
            case "list":
                _list(await undelivered.list(count=limit), as_json=as_json)
                return ExitCode.OK
            case "show":
                _show(await _find(undelivered, entry_ids[0]), as_json=as_json)
                return ExitCode.OK
        return await _each(undelivered, action, entry_ids, as_json=as_json)


def events_table(events: Sequence[UndeliveredEvent], unix_seconds: float) -> Table:
    """Pure."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("ENTRY", "EXECUTION", "EVENT", "TYPE", "HANDLER"):
        table.add_column(name, no_wrap=True)
    table.add_column("ATTEMPTS", justify="right", no_wrap=True)
    table.add_column("AGE", justify="right", no_wrap=True)
    table.add_column("MESSAGE", no_wrap=True, overflow="ellipsis")
    for event in events:
        table.add_row(
            event.entry_id,
            Text(one_line(event.execution_id)),
            str(event.cursor),
            Text(one_line(event.type)),
            Text(one_line(event.handler), "red"),
            str(event.attempts),
            age(event.ts, unix_seconds),
            Text(shortened(one_line(event.message), MESSAGE_CHARS)),
        )
    return table


def _list(events: Sequence[UndeliveredEvent], *, as_json: bool) -> None:
    if as_json:
        for event in events:
            print(json_line(_shown(event)), flush=True)
        return
    console().print(events_table(events, time.time()))
    if not events:
        print("tailrace: there are no undelivered events", file=sys.stderr)


def _show(event: UndeliveredEvent, *, as_json: bool) -> None:
    if as_json:
        print(json_line(_shown(event)), flush=True)
        return
    for name, value in _shown(event).items():
        print(f"{name:<14}{one_line(str(value))}")


async def _each(undelivered: Undelivered, action: str, entry_ids: Sequence[str], *, as_json: bool) -> int:
    """Do it to all, also where some cannot be done; the exit code is of the first that could not."""
    code: int = ExitCode.OK
    done = "requeued" if action == "requeue" else "dropped"
    async for entry_id in _chosen(undelivered, entry_ids):
        try:
            await (undelivered.requeue(entry_id) if action == "requeue" else undelivered.drop(entry_id))
        except Exception as error:  # noqa: BLE001 - told as the command line tells any
            failed, sentence = explain(error)
            print(f"tailrace: {one_line(f'{entry_id}: {sentence}')}", file=sys.stderr, flush=True)
            code = code or failed
        else:
            print(json_line({"entry_id": entry_id, done: True}) if as_json else f"{done} {entry_id}", flush=True)
    return code


async def _chosen(undelivered: Undelivered, entry_ids: Sequence[str]) -> AsyncGenerator[str, None]:
    for entry_id in entry_ids:
        yield entry_id
    before: str | None = None
    while not entry_ids and (events := await undelivered.list(before=before, count=_PAGE)):
        for event in events:
            yield event.entry_id
        before = events[-1].entry_id


async def _find(undelivered: Undelivered, entry_id: str) -> UndeliveredEvent:
    at = parse(entry_id, field="ENTRY")
    for event in await undelivered.list(before=str(Cursor(at.ms, at.n + 1)), count=1):
        if event.entry_id == str(at):
            return event
    raise CliError(
        f"ENTRY: {entry_id} was not found in group {undelivered.group!r}; "
        f"'tailrace dead-letters --group {undelivered.group}' lists them",
        ExitCode.UNKNOWN_EXECUTION,
    )


def _shown(event: UndeliveredEvent) -> dict[str, Any]:
    return {**asdict(event), "cursor": str(event.cursor)}
