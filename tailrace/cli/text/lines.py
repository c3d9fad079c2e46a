"""Events as lines that a person reads. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from tailrace.bus.model.event import as_line
from tailrace.cli.text.safe import one_line, shortened

TYPE_CHARS: Final = 20
DETAIL_CHARS: Final = 400


def event_line(event_type: str, step: str | None, ts: str, data: Any) -> str:
    """Time of day (UTC), type, step, and what matters of the data."""
    detail = shortened(one_line(detail_of(event_type, data)), DETAIL_CHARS)
    where = f"{one_line(step)}: " if step else ""
    return f"{one_line(ts[11:23]):<12} {one_line(event_type):<{TYPE_CHARS}} {where}{detail}".rstrip()


def detail_of(event_type: str, data: Any) -> str:
    if not isinstance(data, Mapping):
        return "" if data is None else _compact(data)
    match event_type, data:
        case "token", {"text": str(text)} | {"delta": str(text)}:
            return text
        case "token.reset", {"attempt": int(attempt)}:
            return f"the text of this step starts anew (attempt {attempt})"
        case "log", {"line": str(line)} | {"text": str(line)} | {"message": str(line)}:
            return line
        case "step.progress", {"progress": int() | float() as progress}:
            message = data.get("message")
            return f"{progress:.0%}" + (f" {message}" if isinstance(message, str) else "")
        case "execution.failed" | "execution.cancelled" | "execution.timed_out", {"message": str(message)}:
            return message
    return _compact(data) if data else ""


def gap_line(payload: Mapping[str, Any]) -> str:
    return f"--- events are missing here ({payload.get('reason')}): after {payload.get('requested')} the log " + (
        f"goes on with {payload['earliest']} ---" if payload.get("earliest") else "holds nothing ---"
    )


def json_line(value: Any) -> str:
    """A value as one line of JSON, whatever its reader takes for the end of a line."""
    return as_line(_compact(value).encode()).decode()


def _compact(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))
