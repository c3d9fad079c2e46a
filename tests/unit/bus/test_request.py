"""What stands in a control stream is hostile until it is checked; what is a request is obeyed all the same."""

from __future__ import annotations

import contextlib
from typing import Any

import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import given

from tailrace.bus.errors import InvalidEventError, InvalidInputError
from tailrace.bus.model.control_request import (
    GRACE_SECONDS,
    LOST_REQUEST,
    MAX_GRACE_SECONDS,
    ControlRequest,
    answer,
    cancelled_by,
    check_grace,
    check_text,
    read_request,
)

CANCEL = "execution.cancel_requested"
SIGNAL = "execution.signal_requested"


def copied(event_type: str = CANCEL, data: Any = None, *, r: bytes = b"7-3") -> tuple[bytes, list[bytes]]:
    """As append.lua copies a request."""
    ts = b"2026-01-02T03:04:05.678000Z"
    return b"9-0", [b"r", r, b"t", event_type.encode(), b"ts", ts, b"d", orjson.dumps(data)]


def test_a_request_says_what_it_is_and_under_which_id_it_stands_in_the_log() -> None:
    data = {"by": "ann", "reason": "too dear", "grace_seconds": 2}
    assert read_request(copied(data=data)) == ControlRequest("7-3", CANCEL, "ann", "too dear", 2.0)
    signal = read_request(copied(SIGNAL, {"name": "go", "data": {"x": [1]}}))
    assert (signal.name, signal.data, signal.by, signal.cancels) == ("go", {"x": [1]}, None, False)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "text",
        {"by": 5, "reason": ["x"], "grace_seconds": "soon", "name": {}},
        {"by": "", "reason": "", "grace_seconds": -1},
        {"grace_seconds": True},
        {"grace_seconds": 1e300},
        {"grace_seconds": None},
    ],
)
def test_a_member_that_is_not_what_it_should_be_counts_as_absent(data: Any) -> None:
    """The request stands in the log, and the status has followed: it must be obeyed."""
    assert read_request(copied(data=data)) == ControlRequest("7-3", CANCEL, grace_seconds=GRACE_SECONDS)


def test_what_would_not_fit_into_an_ending_is_cut() -> None:
    request = read_request(copied(data={"by": "x" * 10_000, "reason": "y" * 10_000}))
    assert len(orjson.dumps(cancelled_by(request))) < 1500


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ((b"1-1", None), "r"),
        ((b"1-1", []), "r"),
        ((b"1-1", [b"t", CANCEL.encode(), b"d", b"{}"]), "r"),
        (copied(r=b""), "r"),
        (copied(r=b"0-0"), "r"),
        (copied(r=b"7-3\n"), "r"),
        (copied(r=b"\xff"), "r"),
        (copied(r=b"99999999999999999999999-1"), "r"),
        (copied("execution.cancelled"), "t"),
        (copied("custom.thing"), "t"),
        (copied("EXECUTION.CANCEL_REQUESTED"), "t"),
        ((b"1-1", [b"r", b"7-3"]), "t"),
        ((b"1-1", [b"r", b"7-3", b"t", CANCEL.encode(), b"d", b"{"]), "t"),
        ((b"1-1", [b"r", b"7-3", b"t", CANCEL.encode(), b"d", b'"' + b"x" * 300_000 + b'"']), "t"),
        ((b"1-1", [b"r", b"7-3", b"t", CANCEL.encode(), b"d", b"[" * 100_000]), "t"),
        ((b"1-1", [b"r", b"7-3", b"t", CANCEL.encode(), b"e", b"zip", b"d", b"1"]), "t"),
    ],
)
def test_what_is_no_copy_of_a_request_names_what_is_wrong(raw: Any, field: str) -> None:
    with pytest.raises(InvalidEventError) as caught:
        read_request(raw)
    assert caught.value.field == field
    assert len(str(caught.value)) < 500


@given(
    st.lists(st.sampled_from([b"r", b"t", b"d", b"7-3", CANCEL.encode(), b"{}"]) | st.binary(max_size=20), max_size=8)
)
def test_nothing_but_an_invalid_event_comes_of_anything_else(fields: list[bytes]) -> None:
    with contextlib.suppress(InvalidEventError):
        assert read_request((b"1-1", fields)).id == "7-3"


def test_an_answer_names_its_request_and_who_asked() -> None:
    request = ControlRequest("7-3", CANCEL, "ann", "too dear")
    assert answer(request, more=1) == {"request": "7-3", "by": "ann", "more": 1}
    assert cancelled_by(request) == {"reason": "too dear", "request": "7-3", "by": "ann"}
    assert cancelled_by(request, forced=True)["forced"] is True
    assert cancelled_by(LOST_REQUEST) == {"reason": "cancelled"}


@pytest.mark.parametrize("grace", [-0.1, float("nan"), float("inf"), MAX_GRACE_SECONDS + 1, True, "5", None])
def test_a_grace_is_a_number_of_seconds(grace: object) -> None:
    with pytest.raises(InvalidInputError):
        check_grace(grace)
    assert check_grace(0) == 0.0


@pytest.mark.parametrize("text", ["", "x" * 1001, "a\nb", "\u2028", "\x7f", "\ud800", 5, None])
def test_text_is_one_line_that_can_be_shown(text: object) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_text(text, field="reason")
    assert caught.value.field == "reason"
    assert check_text("too dear: 5 €", field="reason") == "too dear: 5 €"
