"""What is known of an execution beside its log. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from tailrace.bus.model.cursor import START, Cursor, parse
from tailrace.bus.model.fields import number, text
from tailrace.bus.model.labels import Labels, read_labels
from tailrace.bus.model.lifecycle import ENDED, LIVE, Status

STATE_FIELDS = (
    "status", "pipeline", "tenant", "owner", "attempt", "fence", "created", "started", "ended",
    "n", "ms", "terminal", "lease_until", "submitted", "labels",
    "start_by", "deadline",
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
    labels: Labels = field(default_factory=dict)
    start_by_ms: int | None = None
    deadline_ms: int | None = None

    @property
    def waits_until_ms(self) -> int | None:
        """When it is over if it still waits for a worker then; None for never."""
        limits = [self.deadline_ms, None if self.started_ms is not None else self.start_by_ms]
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.terminal is not None


def parse_state(execution_id: str, values: list[bytes | None]) -> State:
    """Read what HMGET gave for STATE_FIELDS; a field that a stranger broke counts as absent."""
    raw = dict(zip(STATE_FIELDS, values, strict=True))
    status = text(raw["status"])
    return State(
        execution_id=execution_id,
        status=cast("Status", status) if status in ENDED | LIVE else "unknown",
        pipeline=text(raw["pipeline"]),
        tenant=text(raw["tenant"]),
        owner=text(raw["owner"]),
        attempt=number(raw["attempt"]) or 0,
        fence=number(raw["fence"]) or 0,
        created_ms=number(raw["created"]),
        started_ms=number(raw["started"]),
        ended_ms=number(raw["ended"]),
        entries=number(raw["n"]) or 0,
        terminal=_cursor(raw["terminal"]),
        lease_until_ms=number(raw["lease_until"]),
        submitted=text(raw["submitted"]),
        labels=read_labels(raw["labels"]),
        start_by_ms=number(raw["start_by"]),
        deadline_ms=number(raw["deadline"]),
    )


def _cursor(raw: bytes | None) -> Cursor | None:
    try:
        cursor = START if raw is None else parse(raw.decode("ascii"))
    except ValueError:
        return None
    return None if cursor == START else cursor
