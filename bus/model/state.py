"""What is known of an execution beside its log. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from tailrace.bus.model.cursor import START, Cursor, parse
from tailrace.bus.model.lifecycle import ENDED, LIVE, Status

# No more than an unsigned 64-bit number has; what is longer, a stranger wrote.
_MAX_DIGITS = 20
STATE_FIELDS = (
    "status", "pipeline", "tenant", "owner", "attempt", "fence", "created", "started", "ended",
    "n", "ms", "terminal", "lease_until", "submitted",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    """The durable state: survives the log, so that who comes late is told the truth.

    Times are Redis's own, in Unix milliseconds. ``entries`` counts ours only, strangers' entries not.
    """

    execution_id: str
    status: Status
    pipeline: str | None = None
    tenant: str | None = None
    owner: str | None = None
    attempt: int = 0
    fence: int = 0
    created_ms: int | None = None
    started_ms: int | None = None
    ended_ms: int | None = None
    entries: int = 0
    terminal: Cursor | None = None
    lease_until_ms: int | None = None
    submitted: str | None = None

    @property
    def ended(self) -> bool:
        return self.terminal is not None


def parse_state(execution_id: str, values: list[bytes | None]) -> State:
    """Read what HMGET gave for STATE_FIELDS; a field that a stranger broke counts as absent."""
    raw = dict(zip(STATE_FIELDS, values, strict=True))
    status = _text(raw["status"])
    return State(
        execution_id=execution_id,
        status=cast("Status", status) if status in ENDED | LIVE else "unknown",
        pipeline=_text(raw["pipeline"]),
        tenant=_text(raw["tenant"]),
        owner=_text(raw["owner"]),
        attempt=_number(raw["attempt"]) or 0,
        fence=_number(raw["fence"]) or 0,
        created_ms=_number(raw["created"]),
        started_ms=_number(raw["started"]),
        ended_ms=_number(raw["ended"]),
        entries=_number(raw["n"]) or 0,
        terminal=_cursor(raw["terminal"]),
        lease_until_ms=_number(raw["lease_until"]),
        submitted=_text(raw["submitted"]),
    )


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode(errors="replace")


def _number(raw: bytes | None) -> int | None:
    return int(raw) if raw is not None and raw.isdigit() and len(raw) <= _MAX_DIGITS else None


def _cursor(raw: bytes | None) -> Cursor | None:
    try:
        cursor = START if raw is None else parse(raw.decode("ascii"))
    except ValueError:
        return None
    return None if cursor == START else cursor
