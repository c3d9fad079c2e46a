"""``progress`` and one ``complete`` of an ingest; ``activity`` and ``heartbeat`` of the agents."""

from __future__ import annotations

from typing import Any

from tailrace import Frame, Gap, ShownEntry, SseWire, frame


class IngestWire(SseWire):
    """``id`` names the ingest, so that ``Last-Event-ID`` alone says what to go on with, on any instance."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def show(self, entry: ShownEntry) -> Frame | None:
        match entry.type:
            case "progress":
                return frame("progress", entry.data)
            case "execution.completed":
                return frame("complete", entry.data["result"])
            case "execution.failed" | "execution.cancelled" | "execution.timed_out":
                reason = entry.data["reason"]
                return self._error(entry.data.get("message") or reason, {"reason": reason})
        return None

    def gap(self, execution_id: str, gap: Gap) -> Frame:
        return frame("progress", {"step": "lost", "message": "Some steps are not shown", "reason": gap.reason})

    def ended(self, execution_id: str, status: str) -> Frame:
        """For who comes when the last event is gone."""
        return self._error(f"The ingest has {status}; its outcome is not kept any more", {"reason": "expired"})

    def failed(self, execution_id: str | None, code: str, detail: str) -> Frame:
        """The stream is over, not the ingest: come back with the id of the last event."""
        return frame("error", {"code": code, "detail": detail})

    def sent_away(self, retry_ms: int) -> None:
        """A stream without a ``complete`` was cut: the client comes back with the id of the last event."""

    def _error(self, message: str, details: dict[str, Any]) -> Frame:
        return frame("complete", {"type": self.kind, "status": "error", "message": message, "details": details})


class AgentsWire(SseWire):
    """Of the agents of these types and these sources; of all where none are named. Heartbeats are for everybody."""

    def __init__(self, types: frozenset[str], sources: frozenset[str]) -> None:
        self.types = types
        self.sources = sources

    def show(self, entry: ShownEntry) -> Frame | None:
        if entry.type not in {"agent", "heartbeat"}:
            return None
        told = entry.data
        if entry.type == "agent" and not self._wanted(told["payload"]["agent_name"], told["source_id"]):
            return None
        shown = {name: told[name] for name in ("stream", "source_id", "event")}
        name = "activity" if entry.type == "agent" else "heartbeat"
        return frame(name, {**shown, "timestamp": entry.ts, "payload": told["payload"]})

    def _wanted(self, agent_name: str, source_id: str) -> bool:
        return agent_name in (self.types or {agent_name}) and source_id in (self.sources or {source_id})
