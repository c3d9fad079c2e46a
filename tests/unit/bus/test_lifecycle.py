"""The state machine, every cell of it: from where, by what, by whom."""

from __future__ import annotations

import itertools
import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.bus.model.event import (
    CANCEL_REQUESTED,
    CANCELLED,
    LIFECYCLE_TYPES,
    PAUSED,
    QUEUED,
    REQUEST_TYPES,
    RESUMED,
    RETRYING,
    SIGNALLED,
    STARTED,
    TERMINAL_TYPES,
)
from tailrace.bus.model.lifecycle import ENDED, LIVE, TRANSITIONS, Live, Status, as_lua
from tests.follow_up import follow_up

STATES: tuple[Live, ...] = get_args(Live)
TYPES = sorted(LIFECYCLE_TYPES)
CELLS = list(itertools.product(STATES, TYPES))

# By hand, and not from the table: what the design promises.
BY_THE_OWNER: dict[Live, dict[str, Status]] = {
    "none": {QUEUED: "queued", STARTED: "running", RETRYING: "queued", PAUSED: "paused", RESUMED: "running",
             SIGNALLED: "running"},
    "queued": {STARTED: "running", RETRYING: "queued", PAUSED: "paused", RESUMED: "running", SIGNALLED: "queued"},
    "running": {RETRYING: "queued", PAUSED: "paused", RESUMED: "running", SIGNALLED: "running"},
    "paused": {STARTED: "paused", RETRYING: "paused", PAUSED: "paused", RESUMED: "running", SIGNALLED: "paused"},
    "cancelling": {SIGNALLED: "cancelling"},
}  # fmt: skip


@pytest.mark.parametrize(("state", "event_type"), CELLS)
def test_the_owner_moves_it_as_promised_and_no_other_way(state: Live, event_type: str) -> None:
    if event_type in REQUEST_TYPES:
        return
    ending = event_type.partition(".")[2] if event_type in TERMINAL_TYPES else None
    assert follow_up(state, event_type, owner=True) == (ending or BY_THE_OWNER[state].get(event_type))


@pytest.mark.parametrize(("state", "event_type"), CELLS)
def test_whoever_does_not_run_it_may_queue_it_ask_for_things_and_cancel_what_waits(
    state: Live, event_type: str
) -> None:
    allowed = (
        (state, event_type) == ("none", QUEUED)
        or (event_type in REQUEST_TYPES and state in {"queued", "running", "paused"})
        or (state, event_type) in {("queued", CANCELLED), ("cancelling", CANCEL_REQUESTED)}
    )
    assert (follow_up(state, event_type, owner=False) is not None) is allowed


@pytest.mark.parametrize("state", STATES)
def test_a_request_changes_no_status_but_for_the_cancellation_of_what_runs(state: Live) -> None:
    for request in REQUEST_TYPES:
        after = follow_up(state, request, owner=False)
        if request == CANCEL_REQUESTED and state in {"running", "paused", "cancelling"}:
            assert after == "cancelling"
        else:
            assert after in {None, state}


@pytest.mark.parametrize(("state", "event_type"), CELLS)
def test_what_anybody_may_the_owner_may_with_the_same_outcome(state: Live, event_type: str) -> None:
    by_anybody = follow_up(state, event_type, owner=False)
    assert by_anybody is None or follow_up(state, event_type, owner=True) == by_anybody


def test_an_ending_has_no_follow_up() -> None:
    assert not [state for state, _ in TRANSITIONS if state in ENDED]
    assert {transition.to for transition in TRANSITIONS.values()} <= ENDED | LIVE


@pytest.mark.parametrize("state", STATES)
def test_every_ending_can_be_told_from_every_state_by_the_owner(state: Live) -> None:
    assert {follow_up(state, ending, owner=True) for ending in TERMINAL_TYPES} == ENDED


@given(st.lists(st.tuples(st.sampled_from(TYPES), st.booleans())))
def test_a_cancellation_that_was_asked_for_is_never_forgotten(events: list[tuple[str, bool]]) -> None:
    status: Status | Live = "running"
    asked = False
    for event_type, owner in events:
        after = follow_up(status, event_type, owner=owner)  # type: ignore[arg-type]
        if after is None:
            continue
        status, asked = after, asked or (event_type == CANCEL_REQUESTED and status != "queued")
        if status in ENDED:
            return
        assert not asked or status == "cancelling"


def test_the_script_gets_the_same_table() -> None:
    rows = dict(re.findall(r"\['([^']+)'\] = '([^']+)',", as_lua()))
    assert rows == {
        f"{state}|{event_type}": transition.to + ("*" if transition.anybody else "")
        for (state, event_type), transition in TRANSITIONS.items()
    }
