"""The events of a scan as they were written: what nodes write as they work, what the graph keeps, or both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from tailrace import Frame, Gap, ShownEntry, SseWire, frame

Mode = Literal["values", "custom", "debug"]


class ScanWire(SseWire):
    """Unnamed events. ``id`` names the scan, so that ``Last-Event-ID`` alone says what to go on with, anywhere."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode

    def show(self, entry: ShownEntry) -> list[Frame]:
        return [frame(each) for each in self._events(entry)]

    def gap(self, execution_id: str, gap: Gap) -> Frame:
        return frame(_log("warning", f"Some events are not shown: {gap.reason}"))

    def ended(self, execution_id: str, status: str) -> Frame:
        """For who comes when the last event is gone."""
        return frame({"type": "scan_ended", "status": status})

    def failed(self, execution_id: str | None, code: str, detail: str) -> Frame:
        """The stream is over, not the scan: come back with the id of the last event."""
        return frame({**_log("error", detail), "code": code})

    def sent_away(self, retry_ms: int) -> None:
        """A stream without a ``scan_ended`` was cut: the client comes back with the id of the last event."""

    def _events(self, entry: ShownEntry) -> Iterator[dict[str, Any]]:
        match entry.type:
            case "graph.custom" if self.mode != "values":
                yield entry.data
            case "graph.updates" if self.mode != "custom":
                mark = {"_mode": "state"} if self.mode == "debug" else {}
                for output in entry.data.values():
                    yield from ({**mark, **event} for event in (output or {}).get("events", ()))
            case "execution.retrying":
                yield _log("warning", "The worker was lost; the scan goes on from its last checkpoint")
            case "execution.failed":
                yield _log("error", f"Scan failed: {entry.data.get('message') or entry.data['reason']}")
                yield {"type": "scan_ended", "status": "failed"}
            case "execution.cancelled" | "execution.timed_out":
                yield {"type": "scan_ended", "status": entry.type.removeprefix("execution.")}
            case "execution.completed":
                yield {"type": "scan_ended", "status": "completed", **entry.data["result"]}


def _log(level: str, message: str) -> dict[str, Any]:
    return {"type": "log", "level": level, "message": message}
