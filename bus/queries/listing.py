"""Executions, the newest first, a page at a time.

The index is a hint: what it names may be gone. A page goes on behind the last one that was seen, by its creation time
and its id, so whatever is created meanwhile neither repeats nor hides anything.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from tailrace.bus.errors import InvalidInputError
from tailrace.bus.log.index import ExecutionIndex
from tailrace.bus.log.log import Log
from tailrace.bus.model.codec import time_of
from tailrace.bus.model.event import check_execution_id
from tailrace.bus.model.lifecycle import Status
from tailrace.bus.model.state import State

MAX_LIMIT: Final = 500
# The work of one page is bounded, however few there are of what it looks for.
MAX_LOOKED_AT: Final = 1000
_BITE: Final = 100
_PLACE: Final = re.compile(r"([0-9]{1,15})-(.+)", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Place = tuple[int, str]
"""Of one execution in the list: when it was created, in Unix milliseconds, and its id."""


@dataclass(frozen=True, slots=True)
class ListQuery:
    """``after_ms`` is the earliest time of creation, ``before_ms`` the first that is too late."""

    statuses: tuple[Status, ...] = ()
    pipeline: str | None = None
    tenant: str | None = None
    after_ms: int | None = None
    before_ms: int | None = None
    cursor: Place | None = None
    limit: int = 50
    labels: tuple[tuple[str, str], ...] = ()

    def wants(self, state: State) -> bool:
        return (
            (not self.statuses or state.status in self.statuses)
            and self.pipeline in {None, state.pipeline}
            and self.tenant in {None, state.tenant}
            and all(state.labels.get(name) == value for name, value in self.labels)
        )

    @property
    def start(self) -> Place | None:
        """The place behind which to begin."""
        places = [self.cursor, None if self.before_ms is None else (self.before_ms, "")]
        return min((place for place in places if place is not None), default=None)


@dataclass(frozen=True, slots=True)
class ListPage:
    """The newest first, perhaps fewer than ``limit``; ``next`` is the place behind which there may be more."""

    states: Sequence[State]
    next: Place | None


async def list_executions(
    log: Log, index: ExecutionIndex, query: ListQuery, covers: Callable[[State], bool] = lambda _: True
) -> ListPage:
    """One page of those that the query wants and ``covers`` lets through. Raises BusUnavailableError."""
    found: list[State] = []
    at, looked_at, more = query.start, 0, True
    while more and len(found) < query.limit and looked_at < MAX_LOOKED_AT:
        places = await index.newest(query.tenant, at, _BITE, label=query.labels[0] if query.labels else None)
        more = len(places) == _BITE
        if query.after_ms is not None and places and places[-1][0] < query.after_ms:
            places, more = [place for place in places if place[0] >= query.after_ms], False
        for place, state in zip(places, await _states(log, places), strict=True):
            if len(found) == query.limit:
                more = True
                break
            at = place
            looked_at += 1
            if state is not None and query.wants(state) and covers(state):
                found.append(state)
    return ListPage(found, at if more else None)


def place_text(place: Place) -> str:
    return f"{place[0]}-{place[1]}"


def parse_place(text: str, *, field: str = "cursor") -> Place:
    """Read a cursor that a page gave. Raises InvalidInputError."""
    found = _PLACE.fullmatch(text)
    if found is None:
        raise InvalidInputError(field, f"{text[:64]!r} is not a cursor of this list; take it from 'next' of a page")
    return int(found[1]), check_execution_id(found[2], field=field)


def parse_time(text: str, *, field: str) -> int:
    """Read a time as Unix milliseconds. Raises InvalidInputError."""
    at = time_of(text)
    if at is None or at < _EPOCH:
        raise InvalidInputError(
            field, f"{text[:64]!r} is not a time since 1970 as in RFC 3339, such as '2026-01-02T03:04:05Z'"
        )
    return (at - _EPOCH) // timedelta(milliseconds=1)


async def _states(log: Log, places: Sequence[Place]) -> list[State | None]:
    return await asyncio.gather(*(log.state(execution_id) for _, execution_id in places))
