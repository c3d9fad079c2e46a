"""The state machine of an execution: every status, every legal transition, who may make it, the event it appends. Pure.

    (none) ──queued──▶ queued ──started──▶ running ◀──resumed── paused
                         ▲                   │ └──────paused──────▶ │
                         └─────retrying──────┤                      │
                                             ├──cancel_requested──▶ cancelling
                                             └──▶ completed · failed · cancelled · timed_out

Nothing else changes a status: ``append.lua`` gets this table from here and refuses, in the step that appends, what is
not in it. The terminal four are the end: a closed log refuses everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from tailrace.bus.model.event import (
    CANCEL_REQUESTED,
    CANCELLED,
    COMPLETED,
    FAILED,
    PAUSE_REQUESTED,
    PAUSED,
    QUEUED,
    RESUME_REQUESTED,
    RESUMED,
    RETRYING,
    SIGNAL_REQUESTED,
    SIGNALLED,
    STARTED,
    TIMED_OUT,
)

Status = Literal[
    "queued", "running", "paused", "cancelling", "completed", "failed", "cancelled", "timed_out", "unknown"
]
Live = Literal["none", "queued", "running", "paused", "cancelling"]
"""``none`` is an execution of which no life-cycle event has told yet."""

ENDED: Final = frozenset({"completed", "failed", "cancelled", "timed_out"})
LIVE: Final = frozenset({"queued", "running", "paused", "cancelling"})


@dataclass(frozen=True, slots=True)
class Transition:
    """``anybody`` says that it takes no lease: who asks for something need not be who runs it.

    All others are for the holder of the newest fence (the owner, or a healer in its place); and for any producer of an
    execution that never had an owner.
    """

    to: Status
    anybody: bool = False


def _from(states: tuple[Live, ...], event_type: str, transition: Transition) -> dict[tuple[str, str], Transition]:
    return {(state, event_type): transition for state in states}


# ``none`` and ``queued`` are here for the owner, too: a flush or a failover may have rewound the state behind its back,
# and the truth it has to tell must not be refused for that.
_ANY: Final[tuple[Live, ...]] = ("none", "queued", "running", "paused", "cancelling")
_WAITING_OR_OWNED: Final[tuple[Status, ...]] = ("queued", "running", "paused")

TRANSITIONS: Final[dict[tuple[str, str], Transition]] = {
    ("none", QUEUED): Transition("queued", anybody=True),
    **_from(("none", "queued"), STARTED, Transition("running")),
    # Who takes over a paused execution keeps it paused until it is resumed.
    ("paused", STARTED): Transition("paused"),
    **_from(("none", "queued", "running"), RETRYING, Transition("queued")),
    ("paused", RETRYING): Transition("paused"),
    **_from(("none", "queued", "running", "paused"), PAUSED, Transition("paused")),
    **_from(("none", "queued", "running", "paused"), RESUMED, Transition("running")),
    # Requests change no status, but for the cancellation, which cannot be taken back.
    **{
        (state, request): Transition(state, anybody=True)
        for state in _WAITING_OR_OWNED
        for request in (PAUSE_REQUESTED, RESUME_REQUESTED, SIGNAL_REQUESTED)
    },
    **_from(("running", "paused", "cancelling"), CANCEL_REQUESTED, Transition("cancelling", anybody=True)),
    # One that waits has no owner to ask: the request and the ending are one batch.
    ("queued", CANCEL_REQUESTED): Transition("queued", anybody=True),
    **{(state, SIGNALLED): Transition(state) for state in ("queued", "running", "paused", "cancelling")},
    ("none", SIGNALLED): Transition("running"),
    **_from(_ANY, COMPLETED, Transition("completed")),
    **_from(_ANY, FAILED, Transition("failed")),
    **_from(_ANY, CANCELLED, Transition("cancelled")),
    ("queued", CANCELLED): Transition("cancelled", anybody=True),
    **_from(_ANY, TIMED_OUT, Transition("timed_out")),
}


def as_lua() -> str:
    """The table as append.lua reads it: ``status|type`` to the next status, with ``*`` when anybody may."""
    rows = [
        f"['{state}|{event_type}'] = '{transition.to}{'*' if transition.anybody else ''}',"
        for (state, event_type), transition in TRANSITIONS.items()
    ]
    return "{\n  " + "\n  ".join(rows) + "\n}"
