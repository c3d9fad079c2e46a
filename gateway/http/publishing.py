"""Publishing over HTTP: what comes in and goes out as JSON, and the reading of it. Pure."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tailrace.bus import BusError, Event, InvalidEventError, InvalidInputError
from tailrace.bus.log.log import MAX_BATCH_EVENTS
from tailrace.bus.model.codec import encode, time_of
from tailrace.bus.model.event import (
    CANCEL_REQUESTED,
    PAUSE_REQUESTED,
    QUEUED,
    RESUME_REQUESTED,
    SIGNAL_REQUESTED,
)
from tailrace.bus.model.fence import Fence
from tailrace.bus.model.trace import meta_of
from tailrace.bus.queries.publishing import Line, LineOutcome, LineStatus
from tailrace.gateway.http.parsing import parse_json
from tailrace.gateway.http.problems import Problem, ProblemError, problem_of
from tailrace.gateway.http.schemas import Links, ProblemDetails

MAX_LINES: Final = MAX_BATCH_EVENTS
PRODUCER_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$"
# append.lua counts in doubles, exact up to here; the numbers of a whole batch must be.
MAX_SEQ: Final = 2**53 - 1 - MAX_BATCH_EVENTS

ProducerName = Annotated[str, Field(pattern=PRODUCER_PATTERN)]
Seq = Annotated[int, Field(ge=1, le=MAX_SEQ)]


class EventIn(BaseModel):
    """One event to append. Unknown members are refused: a misspelt one would be lost silently."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"type": "step.progress", "step": "fetch", "data": {"progress": 0.4}}]},
    )

    type: str = Field(description="lower-case words with dots, as in 'step.progress'")
    data: Any = Field(None, description="any JSON value; at most TAILRACE_MAX_EVENT_BYTES")
    step: str | None = Field(None, description="1 to 256 characters")
    ts: str | None = Field(None, description="RFC 3339, with an offset or Z; the time of arrival when left out")
    meta: dict[str, Any] | None = Field(None, description="at most 16 KiB as JSON")
    encoding: Literal["base64"] | None = Field(None, description="'base64' when `data` is bytes in base64")
    producer: ProducerName | None = Field(None, description="in a batch: instead of the request's")
    seq: Seq | None = Field(None, description="in a batch: the event's number within its producer")


class PublishedLine(BaseModel):
    """What became of one event. ``id`` is its cursor, where it was written now."""

    line: int = Field(description="counted from 1", examples=[1])
    status: LineStatus = Field(
        description="`written` now; `duplicate`, in the log from before; `refused`, see `problem`; `not_tried`, since "
        "an earlier event of its producer was not taken; `unknown`, since Redis stopped answering meanwhile",
        examples=["written"],
    )
    id: str | None = Field(None, examples=["1760000000000-7"])
    problem: ProblemDetails | None = None


class Published(BaseModel):
    """``written`` and ``duplicates`` are in the log; ``failed`` are not, or it is unknown."""

    execution_id: str = Field(examples=["build-7"])
    written: int = Field(examples=[1])
    duplicates: int = Field(examples=[0])
    failed: int = Field(examples=[0])
    items: list[PublishedLine]
    links: Links


# The bus's own producers have names, too (submit, heal.…, control.…): nobody may take their numbers from them.
_PREFIX: Final = "http."
# What is asked for, and by another right than that to publish.
_ROUTES: Final = {
    QUEUED: "",
    CANCEL_REQUESTED: "/{id}/cancel",
    PAUSE_REQUESTED: "/{id}/pause",
    RESUME_REQUESTED: "/{id}/resume",
    SIGNAL_REQUESTED: "/{id}/signals",
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Who publishes, as the request says: ``seq`` is the number of the first event within its producer.

    ``trace`` is its ``traceparent``, which goes with each event that has none of its own.
    """

    producer: str | None = None
    seq: int | None = None
    fence: Fence | None = None
    trace: str | None = None


def read_event(body: bytes, origin: Origin, *, now: str, limit_bytes: int) -> Line:
    """Read a body that is one event. Raises ProblemError, ValidationError, InvalidInputError. Pure."""
    return _line(1, 0, parse_json(body), origin, now=now, limit_bytes=limit_bytes)


def read_lines(body: bytes, origin: Origin, *, now: str, limit_bytes: int) -> list[Line]:
    """Read an NDJSON body; what is wrong with a line stands in that line. Raises ProblemError. Pure."""
    texts = [(number, text) for number, text in enumerate(body.split(b"\n"), 1) if text.strip()]
    if not texts:
        raise ProblemError(Problem(400, "invalid_json", "the body is empty; expected one JSON event a line", "body"))
    if len(texts) > MAX_LINES:
        detail = f"the batch has {len(texts)} events, the limit is {MAX_LINES}; send several batches"
        raise ProblemError(Problem(413, "too_many_events", detail, "body", {"limit_events": MAX_LINES}))
    lines: list[Line] = []
    for index, (number, text) in enumerate(texts):
        given: Any = None
        try:
            given = parse_json(text)
            line = _line(number, index, given, origin, now=now, limit_bytes=limit_bytes)
        except (ProblemError, ValidationError, BusError) as error:
            line = Line(number, _producer(_claimed(given, origin)), error=error)
        lines.append(line)
    return lines


def check_ts(given: str) -> str:
    """Return a time as the log has it, in UTC with microseconds. Raises InvalidEventError. Pure."""
    at = time_of(given)
    if at is None:
        raise InvalidEventError(
            "ts", f"{given[:64]!r} is not a time as in RFC 3339, such as '2026-01-02T03:04:05.678Z'"
        )
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _line(number: int, index: int, given: Any, origin: Origin, *, now: str, limit_bytes: int) -> Line:
    event = EventIn.model_validate(given)
    producer = event.producer if event.producer is not None else origin.producer
    seq = event.seq
    if seq is None and event.producer is None and origin.seq is not None:
        seq = origin.seq + index
    if (producer is None) != (seq is None):
        missing, given_one = ("producer", "seq") if producer is None else ("seq", "producer")
        raise InvalidInputError(missing, f"is missing; give it together with {given_one!r}, or neither")
    if seq is not None and seq > MAX_SEQ:
        raise InvalidInputError("seq", f"is {seq}, the limit is {MAX_SEQ}")
    _check_type(event.type)
    meta = event.meta if origin.trace is None else {**(meta_of(origin.trace) or {}), **(event.meta or {})}
    fields = encode(
        Event(event.type, _data(event), event.step, None if event.ts is None else check_ts(event.ts), meta),
        ts=now,
        limit_bytes=limit_bytes,
    )
    return Line(number, _producer(producer), seq or 0, fields, event.type)


def _claimed(given: Any, origin: Origin) -> str | None:
    """Whose a broken line is, as far as one can tell."""
    claimed = given.get("producer") if isinstance(given, dict) else None
    return claimed if isinstance(claimed, str) else origin.producer


def _producer(name: str | None) -> str:
    return "" if name is None else _PREFIX + name


def _check_type(event_type: str) -> None:
    route = _ROUTES.get(event_type)
    if route is not None:
        raise InvalidEventError(
            "type", f"{event_type!r} cannot be published; ask for it with POST /v1/executions{route}"
        )


def _data(event: EventIn) -> Any:
    if event.encoding is None:
        return event.data
    if isinstance(event.data, str):
        with contextlib.suppress(ValueError):
            return base64.b64decode(event.data, validate=True)
    raise InvalidEventError("data", "is not base64, though 'encoding' says so")


def published(execution_id: str, outcomes: Sequence[LineOutcome]) -> Published:
    """Tell what became of a batch."""
    written = sum(outcome.status == "written" for outcome in outcomes)
    duplicates = sum(outcome.status == "duplicate" for outcome in outcomes)
    return Published(
        execution_id=execution_id,
        written=written,
        duplicates=duplicates,
        failed=len(outcomes) - written - duplicates,
        items=[_item(outcome) for outcome in outcomes],
        links=Links.of(execution_id),
    )


def problem_with(outcome: LineOutcome) -> Problem | None:
    if outcome.error is None:
        return None
    problem = problem_of(outcome.error)
    if outcome.status == "unknown":
        detail = "Redis stopped answering: whether this event was appended is not known"
        return replace(problem, detail=detail)
    return problem


def _item(outcome: LineOutcome) -> PublishedLine:
    problem = problem_with(outcome)
    return PublishedLine(
        line=outcome.line,
        status=outcome.status,
        id=None if outcome.cursor is None else str(outcome.cursor),
        problem=None if problem is None else ProblemDetails.model_validate(problem.members()),
    )
