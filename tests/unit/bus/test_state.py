"""The durable state is read from a hash that anybody may have touched: broken fields count as absent."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.lifecycle import ENDED
from tailrace.bus.model.state import STATE_FIELDS, State, parse_state

numbers = st.integers(0, 2**63 - 1)


def values_of(**fields: bytes) -> list[bytes | None]:
    return [fields.get(name) for name in STATE_FIELDS]


def test_a_whole_state_is_read() -> None:
    state = parse_state(
        "run-1",
        values_of(
            status=b"completed", pipeline=b"document", tenant=b"acme", owner=b"host-1", attempt=b"2", fence=b"3",
            created=b"10", started=b"11", ended=b"12", n=b"40", ms=b"12", terminal=b"12-40", lease_until=b"99",
            submitted=b"abc",
        ),
    )  # fmt: skip
    assert state == State(
        "run-1", "completed", "document", "acme", "host-1", 2, 3, 10, 11, 12, 40, Cursor(12, 40), 99, "abc"
    )
    assert state.ended


def test_nothing_is_known_of_an_execution_whose_state_is_empty() -> None:
    state = parse_state("run-1", values_of())
    assert state == State("run-1", "unknown")
    assert not state.ended


hostile = (
    st.none()
    | st.binary(max_size=40)
    | st.sampled_from(
        [
            b"-1",
            b"+1",
            b" 1",
            b"1_0",
            b"0x1",
            b"1e5",
            b"\xff",
            b"9" * 5000,
            b"-",
            b"0",
            b"0-0",
            b"-1",
            b"1-",
            b"-1-1",
            b"1-1-1",
            b"$",
        ]
    )
)


@given(st.lists(hostile, min_size=len(STATE_FIELDS), max_size=len(STATE_FIELDS)))
@example([b"9" * 5000] * len(STATE_FIELDS))
def test_whatever_a_stranger_writes_there_it_never_raises(values: list[bytes | None]) -> None:
    state = parse_state("run-1", values)
    assert state.status in ENDED | {"queued", "running", "paused", "cancelling", "unknown"}
    assert state.attempt >= 0
    assert state.terminal is None or state.terminal > Cursor(0, 0)


@given(numbers, numbers.filter(bool))
def test_only_a_well_formed_id_ends_an_execution(ms: int, n: int) -> None:
    assert parse_state("x", values_of(terminal=b"%d-%d" % (ms, n))).terminal == Cursor(ms, n)
    for broken in (b"%d" % ms, b"%d-" % ms, b"-%d" % n, b"%d-%d-1" % (ms, n), b"x%d-%d" % (ms, n), b"", b"0-0"):
        assert parse_state("x", values_of(terminal=broken)).terminal is None
