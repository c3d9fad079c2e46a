"""Questions that wait for a person, those that wait longest first, a page at a time.

The index is a hint: what it names may have been answered, or its execution may have ended. Such a question is
skipped, and listed no more.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from tailrace.bus.errors import BusUnavailableError, InvalidInputError
from tailrace.bus.log.index import ExecutionIndex
from tailrace.bus.log.log import Log
from tailrace.bus.model.event import check_execution_id
from tailrace.bus.model.state import State
from tailrace.bus.ownership.checkpoints import Checkpoints

MAX_LOOKED_AT: Final = 1000
_BITE: Final = 100
_PLACE: Final = re.compile(r"([0-9]{1,15})-([^:]+):(.{1,256})", re.ASCII)

Place = tuple[int, str, str]
"""Of one question: when it was asked, in Unix milliseconds, its execution's id, and its name."""


@dataclass(frozen=True, slots=True)
class WaitingQuestion:
    """``ask`` is its name: the answer is the signal ``answer:<ask>``. ``schema`` is a JSON Schema of the answer."""

    state: State
    ask: str
    step: str | None
    question: Any
    schema: dict[str, Any] | None
    since_ms: int


@dataclass(frozen=True, slots=True)
class QuestionPage:
    """Perhaps fewer than asked for; ``next`` is the place behind which there may be more."""

    questions: Sequence[WaitingQuestion]
    next: Place | None


async def list_questions(
    log: Log,
    index: ExecutionIndex,
    checkpoints: Checkpoints,
    *,
    tenant: str | None,
    after: Place | None,
    limit: int,
    covers: Callable[[State], bool],
) -> QuestionPage:
    """One page of a tenant's (of all for None) that ``covers`` lets through. Raises BusUnavailableError."""
    found: list[WaitingQuestion] = []
    at, looked_at, more = after, 0, True
    while more and len(found) < limit and looked_at < MAX_LOOKED_AT:
        places = await index.questions(tenant, at, _BITE)
        more = len(places) == _BITE
        looked = await asyncio.gather(*(_look_at(log, index, checkpoints, place) for place in places))
        for place, question in zip(places, looked, strict=True):
            if len(found) == limit:
                more = True
                break
            at = place
            looked_at += 1
            if question is not None and covers(question.state):
                found.append(question)
    return QuestionPage(found, at if more else None)


def place_text(place: Place) -> str:
    since_ms, execution_id, ask = place
    return f"{since_ms}-{execution_id}:{ask}"


def parse_place(text: str, *, field: str = "cursor") -> Place:
    """Read a cursor that a page gave. Raises InvalidInputError."""
    found = _PLACE.fullmatch(text)
    if found is None:
        raise InvalidInputError(field, f"{text[:64]!r} is not a cursor of this list; take it from 'next' of a page")
    return int(found[1]), check_execution_id(found[2], field=field), found[3]


async def _look_at(log: Log, index: ExecutionIndex, checkpoints: Checkpoints, place: Place) -> WaitingQuestion | None:
    since_ms, execution_id, ask = place
    state, kept = await asyncio.gather(log.state(execution_id), checkpoints.question(execution_id, ask))
    if state is None or state.ended or not isinstance(kept, dict):
        with suppress(BusUnavailableError):
            await index.answered(execution_id, ask, None if state is None else state.tenant)
        return None
    schema, step = kept.get("schema"), kept.get("step")
    return WaitingQuestion(
        state,
        ask,
        step if isinstance(step, str) else None,
        kept.get("question"),
        schema if isinstance(schema, dict) else None,
        since_ms,
    )
