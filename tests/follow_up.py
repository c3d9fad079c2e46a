"""The state machine's table, asked for one event."""

from __future__ import annotations

from tailrace.bus.model.lifecycle import TRANSITIONS, Live, Status


def follow_up(status: Live, event_type: str, *, owner: bool) -> Status | None:
    """The status after an event; None when it is not allowed now, or only from the owner."""
    transition = TRANSITIONS.get((status, event_type))
    if transition is None or not (owner or transition.anybody):
        return None
    return transition.to
