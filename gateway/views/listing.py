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
from urllib.parse import urlencode

from pydantic import BaseModel, Field

from tailrace.bus import Bus, InvalidInputError, State
from tailrace.bus.model.codec import ts_of
from tailrace.bus.model.event import check_execution_id
from tailrace.bus.model.lifecycle import Status
from tailrace.gateway.http.schemas import Links

# The work of one page is bounded, however few there are of what it looks for.
MAX_LOOKED_AT: Final = 1000
_BITE: Final = 100
_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
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

    def wants(self, state: State) -> bool:
        return (
            (not self.statuses or state.status in self.statuses)
            and self.pipeline in {None, state.pipeline}
            and self.tenant in {None, state.tenant}
        )

    @property
    def start(self) -> Place | None:
        """The place behind which to begin."""
        places = [self.cursor, None if self.before_ms is None else (self.before_ms, "")]
        return min((place for place in places if place is not None), default=None)


class ExecutionSummary(BaseModel):
    execution_id: str = Field(examples=["build-7"])
    status: Status = Field(examples=["running"])
    pipeline: str | None = Field(examples=["document"])
    tenant: str | None = Field(examples=[None])
    owner: str | None = Field(description="who runs it now", examples=["host-4711-0b6f0a.1"])
    attempt: int = Field(description="how often a worker took it", examples=[1])
    created: str | None = Field(examples=["2026-01-02T03:04:05.678000Z"])
    started: str | None = Field(examples=["2026-01-02T03:04:05.679000Z"])
    ended: str | None = Field(examples=[None])
    entries: int = Field(examples=[7])
    links: Links

    @classmethod
    def of(cls, state: State) -> ExecutionSummary:
        return cls(
            execution_id=state.execution_id,
            status=state.status,
            pipeline=state.pipeline,
            tenant=state.tenant,
            owner=state.owner,
            attempt=state.attempt,
            created=_time(state.created_ms),
            started=_time(state.started_ms),
            ended=_time(state.ended_ms),
            entries=state.entries,
            links=Links.of(state.execution_id),
        )


class ListLinks(BaseModel):
    next: str | None = Field(description="the next page; null when there is none")


class ExecutionList(BaseModel):
    """The newest first. A page may have fewer than ``limit``, even none: only where ``next`` is null is the end."""

    items: list[ExecutionSummary]
    next: str | None = Field(description="the cursor of the next page", examples=["1760000000000-build-7"])
    links: ListLinks


async def list_executions(
    bus: Bus, query: ListQuery, covers: Callable[[State], bool] = lambda _: True
) -> ExecutionList:
    """One page of those that the query wants and ``covers`` lets through. Raises BusUnavailableError."""
    items: list[ExecutionSummary] = []
    at, looked_at, more = query.start, 0, True
    while more and len(items) < query.limit and looked_at < MAX_LOOKED_AT:
        places = await bus.index.newest(query.tenant, at, _BITE)
        more = len(places) == _BITE
        if query.after_ms is not None and places and places[-1][0] < query.after_ms:
            places, more = [place for place in places if place[0] >= query.after_ms], False
        for place, state in zip(places, await _states(bus, places), strict=True):
            if len(items) == query.limit:
                more = True
                break
            at = place
            looked_at += 1
            if state is not None and query.wants(state) and covers(state):
                items.append(ExecutionSummary.of(state))
    following = place_text(at) if more and at is not None else None
    link = None if following is None else f"/v1/executions?{_encoded(query, following)}"
    return ExecutionList(items=items, next=following, links=ListLinks(next=link))


def place_text(place: Place) -> str:
    return f"{place[0]}-{place[1]}"


def parse_place(text: str, *, field: str = "cursor") -> Place:
    """Read a cursor that a page gave. Raises InvalidInputError."""
    found = _PLACE.fullmatch(text)
    if found is None:
        raise InvalidInputError(field, f"{text[:64]!r} is no cursor of this list; take it from 'next' of a page")
    return int(found[1]), check_execution_id(found[2], field=field)


def parse_time(text: str, *, field: str) -> int:
    """Read a time as Unix milliseconds. Raises InvalidInputError."""
    try:
        at = datetime.fromisoformat(text).astimezone(UTC) if _RFC3339.fullmatch(text) else None
    except (ValueError, OverflowError):
        at = None
    if at is None or at < _EPOCH:
        raise InvalidInputError(
            field, f"{text[:64]!r} is no time since 1970 as in RFC 3339, such as '2026-01-02T03:04:05Z'"
        )
    return (at - _EPOCH) // timedelta(milliseconds=1)


async def _states(bus: Bus, places: Sequence[Place]) -> list[State | None]:
    return await asyncio.gather(*(bus.log.state(execution_id) for _, execution_id in places))


def _encoded(query: ListQuery, cursor: str) -> str:
    given = {
        "status": query.statuses,
        "pipeline": query.pipeline,
        "tenant": query.tenant,
        "created_after": _time(query.after_ms),
        "created_before": _time(query.before_ms),
        "limit": query.limit,
        "cursor": cursor,
    }
    return urlencode({name: value for name, value in given.items() if value not in {None, ()}}, doseq=True)


def _time(unix_ms: int | None) -> str | None:
    return None if unix_ms is None else ts_of(unix_ms)
