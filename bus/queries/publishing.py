"""Events that came in one request, on their way into a log.

Each line of a batch is judged by itself. What has a producer and a number is appended once however often it is sent;
behind a line that was refused, no further one of its producer is tried: a number left out would be told to every reader
as a gap, and could not be put in its place any more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tailrace.bus.errors import AppendRefusedError, BusUnavailableError, FenceStaleError, TransitionRefusedError
from tailrace.bus.log.index import ExecutionIndex
from tailrace.bus.log.log import Appended, Log
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.event import LIFECYCLE_TYPES
from tailrace.bus.model.fence import Fence

LineStatus = Literal["written", "duplicate", "refused", "not_tried", "unknown"]
_IN_THE_LOG: Final = frozenset({"written", "duplicate"})


@dataclass(frozen=True, slots=True)
class Line:
    """One event, ready to be appended; or what is wrong with it. ``producer`` is empty when there is none."""

    number: int
    producer: str
    seq: int = 0
    fields: Sequence[bytes] = ()
    type: str = ""
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class LineOutcome:
    """``error`` says why a line was refused, or why it is unknown whether it was written."""

    line: int
    status: LineStatus
    cursor: Cursor | None = None
    error: Exception | None = None


async def append_lines(
    log: Log, index: ExecutionIndex, execution_id: str, lines: Sequence[Line], fence: Fence | None
) -> list[LineOutcome]:
    """Append in order as much as can be; say of each line what became of it.

    Raises FenceStaleError; BusUnavailableError when Redis does not answer and nothing was done yet.
    """
    if fence is not None:
        await _check_fence(log, execution_id, fence)
    outcomes: list[LineOutcome] = []
    stopped: set[str] = set()
    for stretch in stretches(lines):
        first = stretch[0]
        if first.producer in stopped:
            outcomes += [LineOutcome(line.number, "not_tried") for line in stretch]
            continue
        try:
            told = await _append(log, index, execution_id, stretch, fence)
        except BusUnavailableError as error:
            if not any(outcome.status in _IN_THE_LOG for outcome in outcomes):
                raise
            rest = lines[len(outcomes) + len(stretch) :]
            outcomes += [LineOutcome(line.number, "unknown", error=error) for line in stretch]
            return outcomes + [LineOutcome(line.number, "not_tried") for line in rest]
        outcomes += told
        if first.producer and told[0].status == "refused":
            stopped.add(first.producer)
    return outcomes


async def _append(
    log: Log, index: ExecutionIndex, execution_id: str, stretch: Sequence[Line], fence: Fence | None
) -> list[LineOutcome]:
    first = stretch[0]
    if first.error is not None:
        return [LineOutcome(first.number, "refused", error=first.error)]
    if first.type in LIFECYCLE_TYPES and fence is None:
        # One that was submitted is its workers', also before the first of them has begun.
        state = await log.state(execution_id)
        if state is not None and state.submitted is not None:
            refusal = TransitionRefusedError(execution_id, state.status, first.type)
            return [LineOutcome(first.number, "refused", error=refusal)]
    events = [line.fields for line in stretch]
    try:
        appended = await log.append(execution_id, events, producer=first.producer, seq=first.seq, fence=fence)
    except AppendRefusedError as error:
        return [LineOutcome(line.number, "refused", error=error) for line in stretch]
    if appended.written and appended.n == appended.written:
        await _note(log, index, execution_id, appended.ms)
    return list(_written(stretch, appended))


def stretches(lines: Sequence[Line]) -> Iterator[Sequence[Line]]:
    """What can be appended in one step: consecutive numbers of one producer. Pure.

    An event of the life cycle goes alone, so that when it is refused nothing else is.
    """
    start = 0
    for end in range(1, len(lines) + 1):
        if end == len(lines) or not _joins(lines[end - 1], lines[end]):
            yield lines[start:end]
            start = end


def _joins(before: Line, line: Line) -> bool:
    return (
        before.error is None
        and line.error is None
        and before.type not in LIFECYCLE_TYPES
        and line.type not in LIFECYCLE_TYPES
        and before.producer == line.producer
        and (not line.producer or line.seq == before.seq + 1)
    )


def _written(stretch: Sequence[Line], appended: Appended) -> Iterator[LineOutcome]:
    """What is new are the last so many, under consecutive numbers up to the last."""
    duplicates = len(stretch) - appended.written
    for index, line in enumerate(stretch):
        if index < duplicates:
            yield LineOutcome(line.number, "duplicate")
        else:
            yield LineOutcome(line.number, "written", Cursor(appended.ms, appended.n - len(stretch) + 1 + index))


async def _note(log: Log, index: ExecutionIndex, execution_id: str, created_ms: int) -> None:
    """Have an execution that began here found in the list."""
    # A hint that is lost costs the execution its place in the list, and nothing else.
    with contextlib.suppress(BusUnavailableError):
        state = await log.state(execution_id)
        if state is None:
            await index.note(execution_id, None, created_ms)
        else:
            await index.note(execution_id, state.tenant, created_ms, state.labels)


async def _check_fence(log: Log, execution_id: str, fence: Fence) -> None:
    """A fence is proof of ownership, not a claim to it: a higher one than the owner's would shut the owner out."""
    state = await log.state(execution_id)
    current = 0 if state is None else state.fence
    if fence != current:
        raise FenceStaleError(execution_id)
