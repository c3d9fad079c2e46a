"""The messages of this application, each with an id that says where in its plan's log it stands."""

from __future__ import annotations

import uuid
import zlib
from datetime import UTC, datetime
from typing import Any

from plans import BEGIN, END

from tailrace import Cursor, Entry, Frame, Gap, InvalidCursorError, ShownEntry, SocketWire, frame

NAMES = {
    "plan.started": "plan_started",
    "execution.completed": "plan_completed",
    "execution.failed": "plan_failed",
    "execution.cancelled": "plan_failed",
    "execution.timed_out": "plan_failed",
    "execution.paused": "plan_paused",
    "execution.resumed": "plan_resumed",
    "step.started": "step_started",
    "step.progress": "step_progress",
    "step.completed": "step_completed",
    "step.failed": "step_failed",
    "quality.check": "quality_check",
    "review.required": "review_required",
    "metric": "metrics_update",
    "health": "health_update",
    "plan.alert": "health_update",
    "execution.retrying": "health_update",
}
# Behind the milliseconds of a version 8 UUID: ten bits of the plan, and 64 of the place.
_PLACE_BITS = 62


def said(
    event_type: str, plan_id: str, data: Any, *, step: str | None = None, ts: str | None = None, event_id: str = ""
) -> dict[str, Any]:
    return {
        "event_type": event_type,
        "plan_id": plan_id,
        "step_id": step,
        "data": data,
        "timestamp": ts or datetime.now(UTC).isoformat(),
        "event_id": event_id or str(uuid.uuid4()),
    }


def message_of(plan_id: str, entry: Entry) -> dict[str, Any] | None:
    """None for what clients are not told of."""
    name = NAMES.get(entry.type)
    hidden = entry.step in {BEGIN, END} and entry.type != "plan.started"
    if name is None or hidden:
        return None
    step = None if entry.step in {BEGIN, END} else entry.step
    return said(name, plan_id, _data(entry), step=step, ts=entry.ts, event_id=event_id(plan_id, entry.cursor))


def _data(entry: Entry) -> Any:
    match entry.type:
        case "execution.completed":
            return entry.data["result"]
        case "execution.retrying":
            return {"status": "degraded", **entry.data}
        case "step.completed":
            return entry.data["output"]
        case "quality.check":
            return {"quality_score": entry.data["score"], **entry.data}
    return {} if entry.data is None else entry.data


def event_id(plan_id: str, cursor: Cursor) -> str:
    """A UUID that can be read back."""
    high = (zlib.crc32(plan_id.encode()) & 0x3FF) << 2 | cursor.n >> _PLACE_BITS
    low = cursor.n & ((1 << _PLACE_BITS) - 1)
    return str(uuid.UUID(int=cursor.ms << 80 | 8 << 76 | high << 64 | 2 << _PLACE_BITS | low))


def cursor_of(text: str) -> Cursor:
    try:
        number = uuid.UUID(text).int
    except ValueError:
        raise InvalidCursorError("after", f"{text[:64]!r} is not the event_id of an event") from None
    return Cursor(number >> 80, (number >> 64 & 3) << _PLACE_BITS | number & ((1 << _PLACE_BITS) - 1))


class PlanMessages(SocketWire):
    cursor_field = None

    def show(self, entry: ShownEntry) -> Frame | None:
        message = message_of(entry.execution_id, entry)
        return None if message is None else frame(message)

    def gap(self, execution_id: str, gap: Gap) -> Frame:
        detail = "events of this plan are not there any more"
        return frame(said("error", execution_id, {"code": "history_lost", "reason": gap.reason, "detail": detail}))

    def ended(self, execution_id: str, status: str) -> Frame:
        name = "plan_completed" if status == "completed" else "plan_failed"
        return frame(said(name, execution_id, {"status": status}))

    def failed(self, execution_id: str | None, code: str, detail: str) -> Frame:
        return frame(said("error", execution_id or "system", {"code": code, "detail": detail}))

    def sent_away(self, retry_ms: int) -> Frame:
        detail = "this instance stops; connect again"
        return frame(said("health_update", "system", {"status": "leaving", "retry_ms": retry_ms, "detail": detail}))

    def cursor(self, execution_id: str, cursor: Cursor) -> str:
        return event_id(execution_id, cursor)

    def parse_cursor(self, text: str) -> tuple[str | None, Cursor]:
        return None, cursor_of(text)
