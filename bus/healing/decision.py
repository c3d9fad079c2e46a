"""What becomes of an execution whose owner is gone. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from tailrace.bus.model.cursor import Cursor, from_id
from tailrace.bus.model.event import CANCEL_REQUESTED, CANCELLED, FAILED, RETRYING, Event
from tailrace.bus.model.reading import RawEntry
from tailrace.bus.ownership.lease import Orphan

WORKER_LOST: Final = "worker_lost"
DEFAULT_MAX_ATTEMPTS: Final = 3
DEFAULT_GRACE_SECONDS: Final = 10.0
MAX_GRACE_SECONDS: Final = 24 * 3600.0
# The ending must fit into an event whatever was asked.
MAX_TEXT_CHARS: Final = 4000
MAX_NAME_CHARS: Final = 256


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
    """Read a control stream, whoever wrote it; None where no cancellation is asked for."""
    found: Cancellation | None = None
    for raw_id, raw_fields in control:
        values = raw_fields or ()
        fields = dict(zip(values[::2], values[1::2], strict=False))
        if fields.get(b"t") != CANCEL_REQUESTED.encode():
            continue
        data = _object(fields.get(b"d"))
        over_ms = from_id(raw_id).ms + int(_grace_seconds(data.get("grace_seconds")) * 1000)
        if found is None:
            request = fields.get(b"r")
            shown = None if request is None else request.decode(errors="replace")
            found = Cancellation(shown, _text(data.get("by")), _text(data.get("reason")), over_ms)
        elif over_ms < found.over_ms:
            found = Cancellation(found.request, found.by, found.reason, over_ms)
    return found


def judge(orphan: Orphan, cancellation: Cancellation | None, *, cancelling: bool) -> Event:
    """Say what is to be appended in the lost owner's place; ``cancelling`` is what its status is by now."""
    lease, lost_owner = orphan.lease, orphan.lost_owner[:MAX_NAME_CHARS] or None
    if cancelling:
        asked = cancellation or Cancellation(None, None, None, 0)
        # As its owner would have said it (bus.request.cancelled_by).
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
            "message": _sentence(lost_owner, lease.attempt, most, submitted=orphan.submitted),
            "attempts": lease.attempt,
            "lost_owner": lost_owner,
        },
    )


def _sentence(lost_owner: str | None, attempt: int, most: int, *, submitted: bool) -> str:
    who = f"its worker {lost_owner}" if lost_owner else "its worker"
    if submitted:
        return f"{who} was lost in attempt {attempt}; {most} are allowed"
    return f"{who} was lost, and nobody else can run it: it was not submitted"


def _grace_seconds(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not math.isfinite(given):
        return DEFAULT_GRACE_SECONDS
    return min(max(float(given), 0.0), MAX_GRACE_SECONDS)


def _text(given: Any) -> str | None:
    return given[:MAX_TEXT_CHARS] if isinstance(given, str) else None


def _object(raw: bytes | None) -> dict[str, Any]:
    try:
        data = orjson.loads(raw or b"")
    except orjson.JSONDecodeError:
        return {}
    return data if isinstance(data, dict) else {}
