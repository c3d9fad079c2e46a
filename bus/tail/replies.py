"""The shapes in which XREAD answers. Pure."""

from __future__ import annotations

from typing import Any

from bus.reading import RawEntry


def streams_of(reply: Any) -> dict[bytes, list[RawEntry]]:
    """RESP3 answers with a map, RESP2 with a list of pairs, both with nothing when nothing is new."""
    if not reply:
        return {}
    return reply if isinstance(reply, dict) else dict(reply)
