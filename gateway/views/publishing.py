"""Events that came over HTTP, on their way into a log.

Each line of a batch is judged by itself. What has a producer and a number is appended once however often it is sent;
behind a line that was refused, no further one of its producer is tried: a number left out would be told to every reader
as a gap, and could not be put in its place any more.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from tailrace.bus import (
    AppendRefusedError,
    BusError,
    BusUnavailableError,
    Cursor,
    Event,
    FenceStaleError,
    InvalidEventError,
    InvalidInputError,
)
from tailrace.bus.log.log import MAX_BATCH_EVENTS, Appended
from tailrace.bus.model.codec import encode
from tailrace.bus.model.event import (
    CANCEL_REQUESTED,
    LIFECYCLE_TYPES,
    PAUSE_REQUESTED,
    QUEUED,
    RESUME_REQUESTED,
    SIGNAL_REQUESTED,
)
from tailrace.bus.model.trace import meta_of
from tailrace.gateway.http.parsing import parse_json
from tailrace.gateway.http.problems import Problem, ProblemError, problem_of
from tailrace.gateway.views.publish_schemas import MAX_SEQ, EventIn, LineStatus

if TYPE_CHECKING:
    from tailrace.bus import Bus

MAX_LINES: Final = MAX_BATCH_EVENTS
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
# The bus's own producers have names, too (submit, heal.…, control.…): nobody may take their numbers from them.
_PREFIX: Final = "http."
_IN_THE_LOG: Final = frozenset({"written", "duplicate"})
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
    fence: int | None = None
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class PublishedLineResult:
    """One event, ready to be appended; or the problem with it. ``producer`` is empty when there is none."""

    number: int
    producer: str
    seq: int = 0
    fields: Sequence[bytes] = ()
    type: str = ""
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class PublishOutcome:
    line: int
    status: LineStatus
    cursor: Cursor | None = None
    problem: Problem | None = None


def read_event(body: bytes, origin: Origin, *, now: str, limit_bytes: int) -> PublishedLineResult:
    """Read a body that is one event. Raises ProblemError, ValidationError, InvalidInputError. Pure."""
    return _line(1, 0, parse_json(body), origin, now=now, limit_bytes=limit_bytes)


def read_lines(body: bytes, origin: Origin, *, now: str, limit_bytes: int) -> list[PublishedLineResult]:
    """Read an NDJSON body; what is wrong with a line stands in that line. Raises ProblemError. Pure."""
    texts = [(number, text) for number, text in enumerate(body.split(b"\n"), 1) if text.strip()]
    if not texts:
        raise ProblemError(Problem(400, "invalid_json", "the body is empty; expected one JSON event a line", "body"))
    if len(texts) > MAX_LINES:
        detail = f"the batch has {len(texts)} events, the limit is {MAX_LINES}; send several batches"
        raise ProblemError(Problem(413, "too_many_events", detail, "body", {"limit_events": MAX_LINES}))
    lines: list[PublishedLineResult] = []
    for index, (number, text) in enumerate(texts):
        given: Any = None
        try:
            given = parse_json(text)
            line = _line(number, index, given, origin, now=now, limit_bytes=limit_bytes)
        except (ProblemError, ValidationError, BusError) as error:
            line = PublishedLineResult(number, _producer(_claimed(given, origin)), problem=problem_of(error))
        lines.append(line)
    return lines


async def append_lines(
    bus: Bus, execution_id: str, lines: Sequence[PublishedLineResult], fence: int | None
) -> list[PublishOutcome]:
    """Append in order as much as can be; say of each line what became of it.

    Raises FenceStaleError; BusUnavailableError when Redis does not answer and nothing was done yet.
    """
    if fence is not None:
        await _check_fence(bus, execution_id, fence)
    outcomes: list[PublishOutcome] = []
    stopped: set[str] = set()
    for stretch in stretches(lines):
        first = stretch[0]
        if first.producer in stopped:
            outcomes += [PublishOutcome(line.number, "not_tried") for line in stretch]
            continue
        try:
            told = await _append(bus, execution_id, stretch, fence)
        except BusUnavailableError as error:
            if not any(outcome.status in _IN_THE_LOG for outcome in outcomes):
                raise
            rest = lines[len(outcomes) + len(stretch) :]
            return [*outcomes, *_unknown(stretch, error), *(PublishOutcome(line.number, "not_tried") for line in rest)]
        outcomes += told
        if first.producer and told[0].status == "refused":
            stopped.add(first.producer)
    return outcomes


async def _append(
    bus: Bus, execution_id: str, stretch: Sequence[PublishedLineResult], fence: int | None
) -> list[PublishOutcome]:
    first = stretch[0]
    if first.problem is not None:
        return [PublishOutcome(first.number, "refused", problem=first.problem)]
    events = [line.fields for line in stretch]
    try:
        appended = await bus.log.append(execution_id, events, producer=first.producer, seq=first.seq, fence=fence)
    except AppendRefusedError as error:
        return [PublishOutcome(line.number, "refused", problem=problem_of(error)) for line in stretch]
    if appended.written and appended.n == appended.written:
        await _list(bus, execution_id, appended.ms)
    return list(_written(stretch, appended))


def stretches(lines: Sequence[PublishedLineResult]) -> Iterator[Sequence[PublishedLineResult]]:
    """What can be appended in one step: consecutive numbers of one producer. Pure.

    An event of the life cycle goes alone, so that when it is refused nothing else is.
    """
    start = 0
    for end in range(1, len(lines) + 1):
        if end == len(lines) or not _joins(lines[end - 1], lines[end]):
            yield lines[start:end]
            start = end


def check_ts(given: str) -> str:
    """Return a time as the log has it, in UTC with microseconds. Raises InvalidEventError. Pure."""
    at: datetime | None = None
    if _RFC3339.fullmatch(given):
        with contextlib.suppress(ValueError, OverflowError):
            at = datetime.fromisoformat(given).astimezone(UTC)
    if at is None:
        raise InvalidEventError("ts", f"{given[:64]!r} is no time as in RFC 3339, such as '2026-01-02T03:04:05.678Z'")
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _line(number: int, index: int, given: Any, origin: Origin, *, now: str, limit_bytes: int) -> PublishedLineResult:
    event = EventIn.model_validate(given)
    producer = event.producer if event.producer is not None else origin.producer
    seq = event.seq
    if seq is None and event.producer is None and origin.seq is not None:
        seq = origin.seq + index
    if (producer is None) != (seq is None):
        missing, given_one = ("producer", "seq") if producer is None else ("seq", "producer")
        raise InvalidInputError(missing, f"is missing; {given_one!r} is given, and only both together count")
    if seq is not None and seq > MAX_SEQ:
        raise InvalidInputError("seq", f"is {seq}, the limit is {MAX_SEQ}")
    _check_type(event.type)
    meta = event.meta if origin.trace is None else {**(meta_of(origin.trace) or {}), **(event.meta or {})}
    fields = encode(
        Event(event.type, _data(event), event.step, None if event.ts is None else check_ts(event.ts), meta),
        ts=now,
        limit_bytes=limit_bytes,
    )
    return PublishedLineResult(number, _producer(producer), seq or 0, fields, event.type)


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


def _joins(before: PublishedLineResult, line: PublishedLineResult) -> bool:
    return (
        before.problem is None
        and line.problem is None
        and before.type not in LIFECYCLE_TYPES
        and line.type not in LIFECYCLE_TYPES
        and before.producer == line.producer
        and (not line.producer or line.seq == before.seq + 1)
    )


def _written(stretch: Sequence[PublishedLineResult], appended: Appended) -> Iterator[PublishOutcome]:
    """What is new are the last so many, under consecutive numbers up to the last."""
    duplicates = len(stretch) - appended.written
    for index, line in enumerate(stretch):
        if index < duplicates:
            yield PublishOutcome(line.number, "duplicate")
        else:
            yield PublishOutcome(line.number, "written", Cursor(appended.ms, appended.n - len(stretch) + 1 + index))


def _unknown(stretch: Sequence[PublishedLineResult], error: BusUnavailableError) -> Iterator[PublishOutcome]:
    said = replace(problem_of(error), detail="Redis stopped answering: whether this event was appended is not known")
    for line in stretch:
        yield PublishOutcome(line.number, "unknown", problem=said)


async def _list(bus: Bus, execution_id: str, created_ms: int) -> None:
    """Have an execution that began here found in the list."""
    # A hint that is lost costs the execution its place in the list, and nothing else.
    with contextlib.suppress(BusUnavailableError):
        state = await bus.state(execution_id)
        await bus.index.note(execution_id, None if state is None else state.tenant, created_ms)


async def _check_fence(bus: Bus, execution_id: str, fence: int) -> None:
    """A fence is proof of ownership, not a claim to it: a higher one than the owner's would shut the owner out."""
    state = await bus.state(execution_id)
    current = 0 if state is None else state.fence
    if fence != current:
        raise FenceStaleError(execution_id, fence, current)
