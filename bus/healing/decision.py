"""What becomes of an execution whose owner is gone. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from tailrace.bus.errors import InvalidEventError
from tailrace.bus.model.control_request import read_request
from tailrace.bus.model.cursor import Cursor, from_id
from tailrace.bus.model.event import CANCELLED, FAILED, RETRYING, TIMED_OUT, Event
from tailrace.bus.model.reading import RawEntry
from tailrace.bus.model.state import State
from tailrace.bus.ownership.lease import Orphan

WORKER_LOST: Final = "worker_lost"
NOT_STARTED: Final = "not_started"
DEFAULT_MAX_ATTEMPTS: Final = 3
# The ending must fit into an event.
MAX_OWNER_CHARS: Final = 256


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision that stands in the log at ``cursor``; of all healers, one got to make it."""

    execution_id: str
    event: Event
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What was asked: the first request counts as the one that was answered, the shortest grace as the grace.

    ``over_ms`` is when the owner's grace is over, by Redis's clock; ``request`` the id of the request in the log.
    """

    request: str | None
    by: str | None
    reason: str | None
    over_ms: int


def cancellation_of(control: Iterable[RawEntry]) -> Cancellation | None:
    """Read a control stream as the owner does; None where no cancellation is asked for."""
    found: Cancellation | None = None
    for raw in control:
        try:
            request = read_request(raw)
        except InvalidEventError:
            continue
        if not request.cancels:
            continue
        over_ms = from_id(raw[0]).ms + int(request.grace_seconds * 1000)
        if found is None:
            found = Cancellation(request.id, request.by, request.reason, over_ms)
        elif over_ms < found.over_ms:
            found = replace(found, over_ms=over_ms)
    return found


def judge(orphan: Orphan, cancellation: Cancellation | None, *, cancelling: bool) -> Event:
    """Say what is to be appended in the lost owner's place; ``cancelling`` is what its status is by now."""
    lease, lost_owner = orphan.lease, orphan.lost_owner[:MAX_OWNER_CHARS] or None
    if cancelling:
        asked = cancellation or Cancellation(None, None, None, 0)
        # As its owner would have said it (control_request.cancelled_by).
        data: dict[str, Any] = {"reason": asked.reason or "cancelled", "request": asked.request, "by": asked.by}
        if orphan.forced:
            data["forced"] = True
        return Event(CANCELLED, {**data, "lost_owner": lost_owner})
    most = DEFAULT_MAX_ATTEMPTS if orphan.max_attempts is None else orphan.max_attempts
    if orphan.submitted and lease.attempt < most:
        return Event(RETRYING, {"attempt": lease.attempt + 1, "reason": WORKER_LOST, "lost_owner": lost_owner})
    return Event(
        FAILED,
        {
            "reason": WORKER_LOST,
            "message": _sentence(
                lost_owner, lease.attempt, most, submitted=orphan.submitted, forgotten=lease.status == "queued"
            ),
            "attempts": lease.attempt,
            "lost_owner": lost_owner,
        },
    )


def timed_out(state: State, timeout_ms: int | None, start_within_ms: int | None) -> Event:
    """It waits for a worker, and its time is up: to be begun, or to be done."""
    if state.waits_until_ms != state.deadline_ms:
        seconds = (start_within_ms or 0) / 1000
        message = f"No worker has begun it within {seconds:g} s."
        return Event(TIMED_OUT, {"reason": NOT_STARTED, "message": message, "start_within_seconds": seconds})
    seconds = (timeout_ms or 0) / 1000
    message = f"It was not done {seconds:g} s after its submission."
    return Event(TIMED_OUT, {"reason": "timeout", "message": message, "timeout_seconds": seconds})


def _sentence(lost_owner: str | None, attempt: int, most: int, *, submitted: bool, forgotten: bool) -> str:
    if forgotten:
        return "it was handed back, and no worker can run it again: it was not submitted, or Redis has lost what was"
    who = f"its worker {lost_owner}" if lost_owner else "its worker"
    if submitted:
        return f"{who} was lost in attempt {attempt}; {most} are allowed"
    return f"{who} was lost; no worker can continue it, because it was not submitted as a job"
