"""The trace context that travels with events: in ``m``, as ``traceparent``. Pure.

Rule: W3C Trace Context, section 3.2 (https://www.w3.org/TR/trace-context/): what is malformed is left out, not refused.
"""

from __future__ import annotations

import re
from typing import Any, Final

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)
_INVALID_VERSION: Final = "ff"


def traceparent_of(header: str | None) -> str | None:
    """Return a ``traceparent`` header that can be used, of version 00 or what begins like it; else None."""
    if header is None or (found := _TRACEPARENT.match(header.strip())) is None:
        return None
    version, trace_id, parent_id, flags = found.groups()
    rest = header.strip()[found.end() :]
    # Later versions may say more behind a dash; this one says nothing more.
    fits = not rest if version == "00" else not rest or rest.startswith("-")
    if version == _INVALID_VERSION or not fits or not int(trace_id, 16) or not int(parent_id, 16):
        return None
    return f"00-{trace_id}-{parent_id}-{flags}"


def meta_of(trace: str | None) -> dict[str, Any] | None:
    """What an event carries of it."""
    return None if trace is None else {"traceparent": trace}
