"""The three events of this application: ``trace``, and at the end one ``command_output`` or one ``error``."""

from __future__ import annotations

from typing import Any

from tailrace import Entry, Frame, Gap, ShownEntry, SseWire, frame

# What an ending, or the failure of a stream, is in terms of HTTP; 500 for all others.
CODES = {"timed_out": 504, "execution.timed_out": 504, "execution_unknown": 404, "bus_unavailable": 503}


def trace_of(entry: Entry) -> dict[str, Any] | None:
    """None for what is not one. The model's tokens are traces as well: pieces of what it says to the agent."""
    told: dict[str, Any] = {"direction": "model_to_agent", "raw_command": None}
    match entry.type:
        case "trace":
            told = entry.data
        case "token":
            told["token"] = entry.data["text"]
        case "token.reset":
            # Its tokens so far do not count any more.
            told["reset"] = True
        case _:
            return None
    return {**told, "timestamp_ms": entry.cursor.ms}


def error(code: int, detail: str) -> Frame:
    return frame("error", {"code": code, "detail": detail})


class TurnWire(SseWire):
    """``id`` names the turn, so that ``Last-Event-ID`` alone says what to go on with, on any instance."""

    def __init__(self, *, show_traces: bool) -> None:
        self.show_traces = show_traces

    def show(self, entry: ShownEntry) -> Frame | None:
        match entry.type:
            case "execution.completed":
                return frame("command_output", entry.data["result"])
            case "execution.failed" | "execution.cancelled" | "execution.timed_out":
                return error(CODES.get(entry.type, 500), entry.data.get("message") or entry.data["reason"])
        trace = trace_of(entry) if self.show_traces else None
        return None if trace is None else frame("trace", trace)

    def gap(self, execution_id: str, gap: Gap) -> Frame:
        return frame("trace", {"direction": "lost", "raw_command": None, "reason": gap.reason})

    def ended(self, execution_id: str, status: str) -> Frame:
        """For who comes when the last event is gone."""
        return error(
            CODES.get(status, 410), f"the turn has {status.replace('_', ' ')}; its output is not kept any more"
        )

    def failed(self, execution_id: str | None, code: str, detail: str) -> Frame:
        return error(CODES.get(code, 500), detail)

    def sent_away(self, retry_ms: int) -> None:
        """A stream without an ending was cut: the client comes back with the id of the last event."""
