"""What gateways tell each other: only what changed, and nothing that a stranger wrote is believed."""

from __future__ import annotations

import orjson
import pytest

from tailrace.gateway.auth.principal import ANONYMOUS
from tailrace.gateway.presence.live_connections import DISCONNECTED, ConnectionEnding, LiveConnection, LiveConnections
from tailrace.gateway.presence.record import MAX_SHOWN_EXECUTIONS, parse_record, record_of


class Several:
    def __init__(self, *executions: str) -> None:
        self.executions = executions


def standing(*executions: str, ended: list[ConnectionEnding] | None = None) -> LiveConnection:
    end = (lambda _: None) if ended is None else ended.append
    return LiveConnection("sse", Several(*executions), ANONYMOUS, "10.0.0.1", 1_760_000_000_000, end)


def test_only_what_changed_is_told_and_each_of_it_once() -> None:
    stays = LiveConnections(0)
    first, second = standing("a"), standing("b")
    stays.enter(first)
    stays.enter(second)
    assert stays.untold() == ([first, second], [])
    assert stays.untold() == ([], [])
    second.watching = Several("b", "c")
    stays.leave(first)
    assert stays.untold() == ([second], [first.number])
    assert stays.untold() == ([], [])


def test_who_came_and_went_untold_is_never_told_of() -> None:
    stays = LiveConnections(0)
    brief = standing("a")
    stays.enter(brief)
    stays.leave(brief)
    assert stays.untold() == ([], [])


def test_all_is_told_again_when_nobody_knows_what_is_known() -> None:
    stays = LiveConnections(0)
    lasting = standing("a")
    stays.enter(lasting)
    stays.untold()
    stays.forget_told()
    assert stays.untold() == ([lasting], [])


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
    stays, ended = LiveConnections(0), list[ConnectionEnding]()
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
