"""What clients say is hostile until it is checked; refusals name the field."""

from __future__ import annotations

import contextlib
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tailrace.gateway.streams.socket_ops import CancelOp, OpError, PingOp, SignalOp, SubscribeOp, check_op

SUBSCRIBE = {"op": "subscribe", "id": 1, "execution": "e"}


def test_a_subscription_may_say_where_and_what() -> None:
    op = check_op({**SUBSCRIBE, "from": "5-1", "types": ["step.*"], "step": "fetch", "coalesce_ms": 20})
    assert isinstance(op, SubscribeOp)
    assert (op.execution, op.from_, op.types, op.step, op.coalesce_ms) == ("e", "5-1", ["step.*"], "fetch", 20)


@pytest.mark.parametrize("request_id", [0, 7, 2**53 - 1, "a", "x" * 64])
def test_an_id_is_a_number_or_a_short_string(request_id: int | str) -> None:
    assert check_op({"op": "ping", "id": request_id}) == PingOp(op="ping", id=request_id)


@pytest.mark.parametrize(
    ("given", "code", "field", "request_id"),
    [
        (None, "invalid_frame", None, None),
        ([], "invalid_frame", None, None),
        ([SUBSCRIBE], "invalid_frame", None, None),
        ("ping", "invalid_frame", None, None),
        (True, "invalid_frame", None, None),
        ({}, "missing_field", "op", None),
        ({"id": 5}, "missing_field", "op", 5),
        ({"op": "shout", "id": 5}, "unknown_op", "op", 5),
        ({"op": None, "id": 5}, "unknown_op", "op", 5),
        ({"op": {}, "id": "a"}, "unknown_op", "op", "a"),
        ({"op": "ping"}, "missing_field", "id", None),
        ({"op": "ping", "id": None}, "invalid_field", "id", None),
        ({"op": "ping", "id": True}, "invalid_field", "id", None),
        ({"op": "ping", "id": -1}, "invalid_field", "id", None),
        ({"op": "ping", "id": 2**53}, "invalid_field", "id", None),
        ({"op": "ping", "id": 1.5}, "invalid_field", "id", None),
        ({"op": "ping", "id": ""}, "invalid_field", "id", None),
        ({"op": "ping", "id": "x" * 65}, "invalid_field", "id", None),
        ({"op": "ping", "id": {"a": 1}}, "invalid_field", "id", None),
        ({"op": "ping", "id": 1, "now": 1}, "unknown_field", "now", 1),
        ({"op": "subscribe", "id": 1}, "missing_field", "execution", 1),
        ({**SUBSCRIBE, "execution": 5}, "invalid_field", "execution", 1),
        ({**SUBSCRIBE, "from": 0}, "invalid_field", "from", 1),
        ({**SUBSCRIBE, "from_": "0"}, "unknown_field", "from_", 1),
        ({**SUBSCRIBE, "types": "a"}, "invalid_field", "types", 1),
        ({**SUBSCRIBE, "types": ["a"] * 33}, "invalid_field", "types", 1),
        ({**SUBSCRIBE, "coalesce_ms": 1001}, "invalid_field", "coalesce_ms", 1),
        ({**SUBSCRIBE, "coalesce_ms": "5"}, "invalid_field", "coalesce_ms", 1),
        ({"op": "unsubscribe", "id": 1}, "missing_field", "execution", 1),
        ({"op": "pause", "id": 1}, "missing_field", "execution", 1),
        ({"op": "cancel", "id": 1, "execution": "e", "grace_seconds": -1}, "invalid_field", "grace_seconds", 1),
        ({"op": "cancel", "id": 1, "execution": "e", "reason": ""}, "invalid_field", "reason", 1),
        ({"op": "resume", "id": 1, "execution": "e", "by": "x" * 129}, "invalid_field", "by", 1),
        ({"op": "signal", "id": 1, "execution": "e"}, "missing_field", "name", 1),
    ],
)
def test_what_is_no_op_is_refused_with_the_field_and_the_clients_id(
    given: Any, code: str, field: str | None, request_id: int | str | None
) -> None:
    with pytest.raises(OpError) as caught:
        check_op(given)
    assert (caught.value.code, caught.value.field, caught.value.id) == (code, field, request_id)


def test_what_is_asked_of_an_execution_may_say_why_and_who() -> None:
    op = check_op({"op": "cancel", "id": 1, "execution": "e", "reason": "late", "by": "ann", "grace_seconds": 2})
    assert isinstance(op, CancelOp)
    assert (op.execution, op.reason, op.by, op.grace_seconds) == ("e", "late", "ann", 2)
    signal = check_op({"op": "signal", "id": 1, "execution": "e", "name": "go", "data": [1, None]})
    assert isinstance(signal, SignalOp)
    assert (signal.name, signal.data) == ("go", [1, None])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80) | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["op", "id", "execution", "from", "types", "step", "coalesce_ms"]) | st.text(max_size=5),
        st.sampled_from(["subscribe", "unsubscribe", "ping", "e", "0", "tail"]) | VALUES,
    )
    | VALUES
)
def test_nothing_but_an_op_error_comes_of_anything_else(given: Any) -> None:
    with contextlib.suppress(OpError):
        assert check_op(given).op == given["op"]
