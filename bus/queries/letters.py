"""Dead letters of all queues, the newest first, a page at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tailrace.bus.errors import InvalidCursorError, InvalidInputError
from tailrace.bus.jobs.dead_letters import DeadLetter, DeadLetters
from tailrace.bus.log.log import Log
from tailrace.bus.model.cursor import Cursor, parse
from tailrace.bus.model.event import check_name
from tailrace.bus.model.state import State

MAX_LOOKED_AT: Final = 1000
_BITE: Final = 100

Place = tuple[Cursor, str]
"""Of one letter: its id, and its queue; letters of several queues may have the same id."""


@dataclass(frozen=True, slots=True)
class LetterPage:
    """Perhaps fewer than asked for; ``next`` is the place behind which there may be more."""

    letters: Sequence[DeadLetter]
    next: Place | None


async def list_letters(
    log: Log,
    dead_letters: DeadLetters,
    *,
    queue: str | None,
    after: Place | None,
    limit: int,
    covers: Callable[[str | None, State | None], bool],
) -> LetterPage:
    """One page of a queue's letters, or of all queues'. ``covers`` is given the execution's id and its state.

    Raises BusUnavailableError.
    """
    queues = [queue] if queue is not None else await dead_letters.queues()
    found: list[DeadLetter] = []
    at, looked_at, more = after, 0, True
    while more and len(found) < limit and looked_at < MAX_LOOKED_AT:
        pages = await asyncio.gather(*(_after(dead_letters, name, at) for name in queues))
        # Nothing of another queue stands between these: each queue gave as many as are taken here.
        letters = sorted((letter for page in pages for letter in page), key=_order)[:_BITE]
        more = len(letters) == _BITE
        states = await asyncio.gather(*(_state(log, letter.execution_id) for letter in letters))
        for letter, state in zip(letters, states, strict=True):
            if len(found) == limit:
                more = True
                break
            at = (parse(letter.entry_id), letter.queue)
            looked_at += 1
            if covers(letter.execution_id, state):
                found.append(letter)
    return LetterPage(found, at if more else None)


def place_text(place: Place) -> str:
    return f"{place[0]}@{place[1]}"


def parse_place(text: str, *, field: str = "cursor") -> Place:
    """Read a cursor that a page gave. Raises InvalidInputError."""
    entry_id, _, queue = text.partition("@")
    try:
        return parse(entry_id, field=field), check_name(queue, field=field)
    except (InvalidCursorError, InvalidInputError):
        detail = f"{text[:64]!r} is not a cursor of this list; take it from 'next' of a page"
        raise InvalidInputError(field, detail) from None


async def _after(dead_letters: DeadLetters, queue: str, at: Place | None) -> Sequence[DeadLetter]:
    if at is None:
        return await dead_letters.list(queue, count=_BITE)
    cursor, last = at
    # Those of the same id in queues behind its own are still to come.
    before = Cursor(cursor.ms, cursor.n + 1) if queue > last else cursor
    return await dead_letters.list(queue, before=str(before), count=_BITE)


def _order(letter: DeadLetter) -> tuple[int, int, str]:
    cursor = parse(letter.entry_id)
    return -cursor.ms, -cursor.n, letter.queue


async def _state(log: Log, execution_id: str | None) -> State | None:
    return None if execution_id is None else await log.state(execution_id)
