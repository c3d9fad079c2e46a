"""The shapes in which XREAD answers. Pure."""

from __future__ import annotations

from typing import Any, Final

from tailrace.bus.model.reading import RawEntry

_OLDEST_SECONDS: Final = 3600.0


def streams_of(reply: Any) -> dict[bytes, list[RawEntry]]:
    """RESP3 answers with a map, RESP2 with a list of pairs, both with nothing when nothing is new."""
    if not reply:
        return {}
    return reply if isinstance(reply, dict) else dict(reply)


def age_seconds(entry_id: bytes, now: float) -> float:
    """How long ago Redis took an entry, by this host's clock; its id may also be a stranger's invention."""
    return min(max(0.0, now - int(entry_id.partition(b"-")[0]) / 1000), _OLDEST_SECONDS)
