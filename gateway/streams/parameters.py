"""What a stream's URL and headers ask for: declared for OpenAPI, checked when they are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Header, Query
from pydantic import WithJsonSchema
from starlette.requests import HTTPConnection

from tailrace.bus.errors import InvalidInputError
from tailrace.bus.model.cursor import START, TAIL, Cursor, parse
from tailrace.bus.model.event import check_step
from tailrace.bus.model.filter import (
    MERGE_TOKENS,
    MODES,
    Filter,
    check_merge,
    check_mode,
    check_patterns,
)
from tailrace.gateway.wire.formats import SSE, SSE_UNNAMED, SseFormat

MAX_COALESCE_MS: Final = 1000
_HEADER: Final = "Last-Event-ID"
_CURSOR_EXAMPLE: Final = "1760000000000-7"

LastEventId = Annotated[
    str | None,
    Header(
        alias=_HEADER,
        description="The last `id:` that was seen; wins over `from`, which stays in the URL when an EventSource "
        "reconnects",
        examples=[_CURSOR_EXAMPLE],
    ),
]
LastEventIdQuery = Annotated[
    str | None,
    Query(
        alias="lastEventId",
        description="The same, for clients that cannot set the header; the header wins over it",
        examples=[_CURSOR_EXAMPLE],
    ),
]
LastEventIdSnake = Annotated[
    str | None, Query(alias="last_event_id", description="The same as `lastEventId`", examples=[_CURSOR_EXAMPLE])
]
From = Annotated[
    str | None,
    Query(
        alias="from",
        description="Cursor of the last event already seen; `tail` for what comes from now on",
        examples=[_CURSOR_EXAMPLE],
    ),
]
Types = Annotated[
    str | None,
    Query(
        description="Only these types, by commas, exact or as `step.*`; the ending comes always", examples=["step.*"]
    ),
]
Events = Annotated[
    str | None,
    Query(
        description="`message` for unnamed SSE events, which `EventSource.onmessage` gets",
        json_schema_extra={"enum": ["named", "message"]},
    ),
]


@dataclass(frozen=True, slots=True)
class StreamParameters:
    """As they were given. Each method raises InvalidInputError that names the parameter.

    ``last_event_id`` is the id that a client says it has seen, and ``last_event_id_field`` where it says so.
    """

    last_event_id: str | None = None
    from_: str | None = None
    types: str | None = None
    events: str | None = None
    step: str | None = None
    mode: str | None = None
    coalesce: str | None = None
    merge: str | None = None
    last_event_id_field: str = _HEADER

    @classmethod
    def of(cls, connection: HTTPConnection) -> StreamParameters:
        """For what FastAPI does not call."""
        query = connection.query_params.get
        seen, field = _last_seen(connection.headers.get("last-event-id"), query("lastEventId"), query("last_event_id"))
        return cls(
            last_event_id=seen,
            last_event_id_field=field,
            from_=query("from"),
            types=query("types"),
            events=query("events"),
            step=query("step"),
            mode=query("mode"),
            coalesce=query("coalesce_ms"),
            merge=query("merge"),
        )

    @property
    def resumes(self) -> bool:
        return self.last_event_id is not None or self.from_ is not None

    def check(self) -> None:
        """For who does something first that cannot be taken back."""
        self.cursor()
        self.sse()
        self.filter()
        self.coalesce_ms()

    def cursor(self) -> Cursor | None:
        """Where to begin; None for the present head."""
        if self.last_event_id is not None:
            return parse(self.last_event_id.strip(), field=self.last_event_id_field)
        if self.from_ is None:
            return START
        return None if self.from_ == TAIL else parse(self.from_, field="from")

    def sse(self) -> SseFormat:
        match self.events:
            case None | "named":
                return SSE
            case "message":
                return SSE_UNNAMED
        detail = f"{self.events[:32]!r} is not known; use 'message' for unnamed events, or leave it out"
        raise InvalidInputError("events", detail)

    def filter(self) -> Filter | None:
        """None for one that leaves all as it is."""
        types = None if self.types is None else self.types.split(",") if self.types else []
        return make_filter(types, self.step, self.mode, self.merge)

    @property
    def filters(self) -> dict[str, str]:
        """As the query has them, for a link to what follows."""
        given = {"types": self.types, "step": self.step, "mode": self.mode, "merge": self.merge}
        return {name: value for name, value in given.items() if value is not None}

    def coalesce_ms(self) -> int:
        given = self.coalesce
        if given is None:
            return 0
        if not (given.isascii() and given.isdigit() and len(given) <= 4 and int(given) <= MAX_COALESCE_MS):  # noqa: PLR2004 - digits of the limit
            raise InvalidInputError("coalesce_ms", f"{given[:32]!r} is not a number from 0 to {MAX_COALESCE_MS}")
        return int(given)


def _last_seen(header: str | None, camel: str | None, snake: str | None) -> tuple[str | None, str]:
    """The header first: polyfills of EventSource repeat what they were made with in the query for ever."""
    for given, field in ((header, _HEADER), (camel or None, "lastEventId"), (snake or None, "last_event_id")):
        if given is not None:
            return given, field
    return None, _HEADER


async def _stream_parameters(  # noqa: PLR0917 - FastAPI gives them by name
    last_event_id: LastEventId = None,
    camel: LastEventIdQuery = None,
    snake: LastEventIdSnake = None,
    from_: From = None,
    types: Types = None,
    events: Events = None,
    step: Annotated[str | None, Query(description="Only this step, and the ending", examples=["fetch"])] = None,
    mode: Annotated[
        str | None,
        Query(
            description="Leave out events whose `meta.mode` is another; `debug` leaves out none",
            json_schema_extra={"enum": list(MODES)},
        ),
    ] = None,
    coalesce_ms: Annotated[
        str | None,
        WithJsonSchema(
            {
                "type": "integer",
                "minimum": 0,
                "maximum": MAX_COALESCE_MS,
                "examples": [20],
            }
        ),
        Query(description="Milliseconds for which events are collected before they are sent"),
    ] = None,
    merge: Annotated[
        str | None,
        Query(
            description="`tokens`: adjacent tokens of a step that are sent together come as one event, with the id of "
            "the last",
            json_schema_extra={"enum": [MERGE_TOKENS]},
        ),
    ] = None,
) -> StreamParameters:
    seen, field = _last_seen(last_event_id, camel, snake)
    return StreamParameters(seen, from_, types, events, step, mode, coalesce_ms, merge, last_event_id_field=field)


async def _activity_parameters(  # noqa: PLR0917 - FastAPI gives them by name
    last_event_id: LastEventId = None,
    camel: LastEventIdQuery = None,
    snake: LastEventIdSnake = None,
    from_: From = None,
    types: Types = None,
    events: Events = None,
) -> StreamParameters:
    seen, field = _last_seen(last_event_id, camel, snake)
    return StreamParameters(seen, from_, types, events, last_event_id_field=field)


CurrentParameters = Annotated[StreamParameters, Depends(_stream_parameters)]
ActivityParameters = Annotated[StreamParameters, Depends(_activity_parameters)]


def make_filter(
    types: Sequence[str] | None, step: str | None, mode: str | None = None, merge: str | None = None
) -> Filter | None:
    """None for one that leaves all as it is. Raises InvalidInputError."""
    mode = None if mode is None else check_mode(mode)
    merges = check_merge(merge)
    if types is None and step is None and mode is None and not merges:
        return None
    return Filter(check_patterns(types or ()), None if step is None else check_step(step), mode, merges)
