"""Dead letters: jobs that came to nothing, to be looked at, tried again or dropped. Over Redis only."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from tailrace.bus import Bus, open_bus
from tailrace.bus.jobs.dead_letters import DeadLetter
from tailrace.bus.model.codec import ts_of
from tailrace.bus.model.cursor import Cursor, parse
from tailrace.bus.model.event import check_name
from tailrace.cli.errors import CliError
from tailrace.cli.exit_codes import ExitCode
from tailrace.cli.explanation import explain
from tailrace.cli.text.ages import age
from tailrace.cli.text.lines import json_line
from tailrace.cli.text.safe import one_line, shortened
from tailrace.cli.text.terminal import console

MESSAGE_CHARS: Final = 200
_PAGE: Final = 100


async def list_letters(redis_url: str | None, queue: str | None, *, limit: int, as_json: bool) -> None:
    """The newest of each queue first. Raises BusError."""
    async with await open_bus(redis_url) as bus:
        letters = [
            letter for name in await _queues(bus, queue) for letter in await bus.dead_letters.list(name, count=limit)
        ]
    if as_json:
        for letter in letters:
            _print_json(asdict(letter))
        return
    console().print(letters_table(letters, time.time()))
    if not letters:
        print("tailrace: there are no dead letters", file=sys.stderr)


async def show_letter(redis_url: str | None, queue: str | None, entry_id: str, *, as_json: bool) -> None:
    """One of them in full, with what was to be done. Raises BusError, CliError."""
    async with await open_bus(redis_url) as bus:
        letter = await _find(bus, queue, entry_id)
        submission = None if letter.execution_id is None else await bus.jobs.submission_of(letter.execution_id)
    given = None if submission is None else submission.input
    if as_json:
        _print_json({**asdict(letter), "input": given})
        return
    for name, value in asdict(letter).items():
        if value is not None:
            print(f"{name:<14}{one_line(str(value))}")
    shown = "not known any more" if submission is None else json.dumps(given, ensure_ascii=False)
    print(f"{'input':<14}{one_line(shown)}")


async def requeue_letters(redis_url: str | None, queue: str | None, entry_ids: Sequence[str], *, as_json: bool) -> int:
    """Submit each anew and print the new ids; all of a queue where none is named. Raises BusError, CliError."""

    async def requeue(bus: Bus, letter: DeadLetter) -> None:
        ts = ts_of(time.time_ns() // 1_000_000)
        execution_id = await bus.dead_letters.requeue(letter.queue, letter.entry_id, ts=ts)
        if as_json:
            _print_json(
                {"entry_id": letter.entry_id, "requeued_from": letter.execution_id, "execution_id": execution_id}
            )
        else:
            print(execution_id, flush=True)

    return await _each(redis_url, queue, entry_ids, requeue)


async def drop_letters(redis_url: str | None, queue: str | None, entry_ids: Sequence[str], *, as_json: bool) -> int:
    """Forget each; all of a queue where none is named. Raises BusError, CliError."""

    async def drop(bus: Bus, letter: DeadLetter) -> None:
        await bus.dead_letters.drop(letter.queue, letter.entry_id)
        if as_json:
            _print_json({"entry_id": letter.entry_id, "dropped": True})
        else:
            print(f"dropped {letter.entry_id}", flush=True)

    return await _each(redis_url, queue, entry_ids, drop)


def letters_table(letters: Sequence[DeadLetter], unix_seconds: float) -> Table:
    """Pure."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("QUEUE", "ENTRY", "EXECUTION", "PIPELINE", "REASON"):
        table.add_column(name, no_wrap=True)
    table.add_column("ATTEMPTS", justify="right", no_wrap=True)
    table.add_column("AGE", justify="right", no_wrap=True)
    table.add_column("MESSAGE", no_wrap=True, overflow="ellipsis")
    for letter in letters:
        table.add_row(
            letter.queue,
            letter.entry_id,
            Text(one_line(letter.execution_id or "-")),
            Text(one_line(letter.pipeline or "-")),
            Text(one_line(letter.reason), "red"),
            str(letter.attempts),
            age(letter.ts, unix_seconds),
            Text(shortened(one_line(letter.message), MESSAGE_CHARS)),
        )
    return table


async def _each(
    redis_url: str | None,
    queue: str | None,
    entry_ids: Sequence[str],
    do: Callable[[Bus, DeadLetter], Awaitable[None]],
) -> int:
    """Do it to all, also where some cannot be done; the exit code is of the first that could not."""
    code: int = ExitCode.OK
    async with await open_bus(redis_url) as bus:
        async for found in _chosen(bus, queue, entry_ids):
            try:
                await do(bus, found if isinstance(found, DeadLetter) else await _find(bus, queue, found))
            except Exception as error:  # noqa: BLE001 - told as the command line tells any
                entry_id = found.entry_id if isinstance(found, DeadLetter) else found
                failed, sentence = explain(error)
                print(f"tailrace: {one_line(f'{entry_id}: {sentence}')}", file=sys.stderr, flush=True)
                code = code or failed
    return code


async def _chosen(bus: Bus, queue: str | None, entry_ids: Sequence[str]) -> AsyncGenerator[DeadLetter | str, None]:
    if entry_ids:
        for entry_id in entry_ids:
            yield entry_id
        return
    for name in await _queues(bus, queue):
        before: str | None = None
        while letters := await bus.dead_letters.list(name, before=before, count=_PAGE):
            for letter in letters:
                yield letter
            before = letters[-1].entry_id


async def _queues(bus: Bus, queue: str | None) -> list[str]:
    if queue is not None:
        return [check_name(queue, field="--queue")]
    # A queue is known once a worker has opened it; work goes into this one before there is any.
    return sorted({"default", *await bus.dead_letters.queues()})


async def _find(bus: Bus, queue: str | None, entry_id: str) -> DeadLetter:
    """Raises CliError when there is none, or one in several queues."""
    at = parse(entry_id, field="ENTRY")
    behind = str(Cursor(at.ms, at.n + 1))
    found = [
        letter
        for name in await _queues(bus, queue)
        for letter in await bus.dead_letters.list(name, before=behind, count=1)
        if letter.entry_id == str(at)
    ]
    if not found:
        where = "in any queue" if queue is None else f"in queue {queue!r}"
        raise CliError(
            f"ENTRY: dead letter {entry_id} was not found {where}; 'tailrace dead-letters' lists them",
            ExitCode.UNKNOWN_EXECUTION,
        )
    if len(found) > 1:
        names = " and ".join(letter.queue for letter in found)
        raise CliError(f"ENTRY: {entry_id} is in several queues ({names}); choose one with --queue")
    return found[0]


def _print_json(value: dict[str, Any]) -> None:
    print(json_line(value), flush=True)
