"""What gateways tell each other: only what changed, and nothing that a stranger wrote is believed."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.principal import ANONYMOUS
from gateway.auth.sessions import Ending
from gateway.presence.changes import changes_between
from gateway.presence.record import MAX_SHOWN_EXECUTIONS, parse_record, record_of
from gateway.presence.stays import DISCONNECTED, Standing, Stays

tables = st.dictionaries(st.text(max_size=3), st.binary(max_size=3), max_size=8)


class Several:
    def __init__(self, *executions: str) -> None:
        self.executions = executions


def standing(*executions: str, ended: list[Ending] | None = None) -> Standing:
    end = (lambda _: None) if ended is None else ended.append
    return Standing("sse", Several(*executions), ANONYMOUS, "10.0.0.1", 1_760_000_000_000, end)


@given(tables, tables)
def test_changes_make_of_a_table_what_it_should_be(written: dict[str, bytes], now: dict[str, bytes]) -> None:
    changes = changes_between(written, now)
    kept = {name: value for name, value in written.items() if name not in changes.gone}
    assert {**kept, **changes.changed} == now
    assert not any(written.get(name) == value for name, value in changes.changed.items())


def test_a_record_says_what_it_was_made_of() -> None:
    record = parse_record(record_of(standing("a", "b")))
    assert record is not None
    assert (record.executions, record.watching, record.kind) == (["a", "b"], 2, "sse")
    assert (record.subject, record.address, record.since) == ("anonymous", "10.0.0.1", "2025-10-09T08:53:20.000000Z")


def test_a_record_of_a_busy_socket_is_bounded() -> None:
    record = parse_record(record_of(standing(*(f"run-{n}" for n in range(1000)))))
    assert record is not None
    assert (len(record.executions), record.watching) == (MAX_SHOWN_EXECUTIONS, 1000)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"{}", b"\xff", orjson.dumps({"kind": 1})])
def test_what_no_gateway_wrote_is_no_record(raw: bytes) -> None:
    assert parse_record(raw) is None


def test_a_connection_is_ended_by_its_number_and_numbers_are_never_given_again() -> None:
    stays, ended = Stays(), list[Ending]()
    first = standing("a", ended=ended)
    stays.enter(first)
    assert stays.disconnect(first.number)
    assert ended == [DISCONNECTED]
    stays.leave(first)
    assert not stays.disconnect(first.number)
    second = standing("a")
    stays.enter(second)
    assert second.number > first.number
    assert [each.number for each in stays] == [second.number]
