"""The messages of this application: its nine types of events, and words of its own for what is lost or cut off."""

from __future__ import annotations

from typing import Any

from tailrace import Cursor, Frame, Gap, InvalidCursorError, ShownEntry, SocketWire, SseWire, frame

Named = tuple[str, dict[str, Any]]
ENDINGS = frozenset({"pipeline_complete", "pipeline_error"})
TYPES = ENDINGS | {
    "pipeline_start",
    "step_start",
    "step_progress",
    "step_output",
    "step_complete",
    "step_error",
    "checkpoint_saved",
}


def named(entry: ShownEntry) -> list[Named]:
    """What an entry is called here. A step that ends well is told twice: what it gave, and that it is done."""
    data = entry.data if isinstance(entry.data, dict) else {"value": entry.data}
    match entry.type:
        case "execution.started":
            return [("pipeline_start", {"attempt": data.get("attempt", 1)})]
        case "step.started":
            return [("step_start", {})]
        case "step.progress":
            return [("step_progress", data)]
        case "token":
            return [("step_progress", {"token": data["text"]})]
        case "token.reset":
            return [("step_progress", {"reset": True, "message": "the answer starts anew"})]
        case "log":
            return [("step_progress", {"message": data["text"]})]
        case "review.required":
            return [("step_progress", {"message": "waiting for a person", "waiting": True, **data})]
        case "step.completed":
            output = data.get("output")
            return [
                ("step_output", {"output": output}),
                ("step_complete", {"output": output, "duration_ms": round(1000 * data["duration_seconds"])}),
            ]
        case "step.failed":
            return [("step_error", data)]
        case "checkpoint.saved":
            return [("checkpoint_saved", {"step": entry.step})]
        case "execution.completed":
            return [("pipeline_complete", {"output": data["result"], "partial": False})]
        case "execution.failed" | "execution.cancelled" | "execution.timed_out":
            ending = entry.type.removeprefix("execution.")
            return [("pipeline_error", {"status": ending, "error": data.get("message"), **data, "partial": True})]
    return []


def lost(gap: Gap) -> Named:
    return "stream_gap", {"partial": True, "reason": gap.reason}


def ended(status: str) -> Named:
    """For viewers who come when the last event is gone."""
    return ("pipeline_complete" if status == "completed" else "pipeline_error"), {"status": status, "partial": True}


def wanted(entry: ShownEntry, only: frozenset[str]) -> list[Named]:
    return [(name, data) for name, data in named(entry) if not only or name in only or name in ENDINGS]


class PipelineSse(SseWire):
    """``id`` is the time of the event in seconds, with the place in the log behind its milliseconds.

    ``only`` are types of events, none for all; the ending is always told.
    """

    def __init__(self, only: frozenset[str] = frozenset()) -> None:
        self.only = only

    def show(self, entry: ShownEntry) -> list[Frame]:
        return [frame(name, {"step_id": entry.step, **data}) for name, data in wanted(entry, self.only)]

    def gap(self, execution_id: str, gap: Gap) -> Frame:
        return frame(*lost(gap))

    def ended(self, execution_id: str, status: str) -> Frame:
        return frame(*ended(status))

    def cursor(self, execution_id: str, cursor: Cursor) -> str:
        return f"{cursor.ms // 1000}.{cursor.ms % 1000:03d}{cursor.n:020d}"

    def parse_cursor(self, text: str) -> tuple[str | None, Cursor]:
        seconds, dot, rest = text.partition(".")
        if not (dot and text.isascii() and seconds.isdigit() and rest.isdigit() and len(rest) == 23):
            raise InvalidCursorError("Last-Event-ID", f"{text[:64]!r} is not the id of an event of this stream")
        return None, Cursor(int(seconds) * 1000 + int(rest[:3]), int(rest[3:]))


class PipelineMessages(SocketWire):
    """``id`` is for coming back: ``/ws/pipeline/{execution_id}?from=<id>``."""

    def __init__(self, only: frozenset[str] = frozenset()) -> None:
        self.only = only

    def show(self, entry: ShownEntry) -> list[Frame]:
        told = wanted(entry, self.only)
        return [_message(name, entry.execution_id, data, entry.step, entry.ts) for name, data in told]

    def gap(self, execution_id: str, gap: Gap) -> Frame:
        name, data = lost(gap)
        return _message(name, execution_id, data)

    def ended(self, execution_id: str, status: str) -> Frame:
        name, data = ended(status)
        return _message(name, execution_id, data)

    def failed(self, execution_id: str | None, code: str, detail: str) -> Frame:
        return _message("stream_error", execution_id, {"code": code, "detail": detail})


def _message(
    name: str, execution_id: str | None, data: dict[str, Any], step: str | None = None, timestamp: str | None = None
) -> Frame:
    return frame(
        {"event_type": name, "execution_id": execution_id, "step_id": step, "timestamp": timestamp, "data": data}
    )
