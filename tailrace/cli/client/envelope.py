"""An event as JSON. Pure."""

from __future__ import annotations

from typing import Any

from tailrace.bus import Entry


def envelope_of(execution_id: str, entry: Entry) -> dict[str, Any]:
    """As a gateway shows it."""
    envelope = {"id": entry.id, "type": entry.type, "execution_id": execution_id, "step": entry.step, "ts": entry.ts}
    optional = {"meta": entry.meta, "encoding": "base64" if entry.encoding else None}
    return {
        **{name: value for name, value in envelope.items() if value is not None},
        "data": entry.data,
        **{name: value for name, value in optional.items() if value is not None},
    }
