"""The id of a stream of several executions: whatever it says comes back as it was, and nothing else is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.bus.errors import InvalidCursorError
from tailrace.bus.model.cursor import START, START_SPELLINGS, Cursor
from tailrace.bus.model.entry import Entry
from tailrace.gateway.wire.cursors import Cursors, parse_cursors
from tailrace.gateway.wire.formats import SSE
from tailrace.gateway.wire.multiplex import MULTIPLEX_SSE, remark, with_ids

cursors = st.builds(Cursor, st.integers(1, 2**53), st.integers(0, 2**53)) | st.just(START)


@given(st.lists(cursors, min_size=1, max_size=64))
def test_an_id_gives_back_every_cursor(positions: list[Cursor]) -> None:
    executions = [f"run-{index}" for index in range(len(positions))]
    said = Cursors(executions, positions).id().decode()
    assert parse_cursors(said, executions, field="Last-Event-ID") == positions


@pytest.mark.parametrize("given_id", ["", "0", "0-0", "-1"])
def test_attack_37_the_beginning_is_the_beginning_of_all(given_id: str) -> None:
    assert parse_cursors(given_id, ["a", "b"], field="from") == [START, START]


def test_cursors_of_other_executions_are_refused() -> None:
    said = Cursors(["a", "b"], [Cursor(1, 1), Cursor(2, 2)]).id().decode()
    for others in (["b", "a"], ["a"], ["a", "c"]):
        with pytest.raises(InvalidCursorError, match="other executions"):
            parse_cursors(said, others, field="Last-Event-ID")


@given(st.text(min_size=1, max_size=80))
def test_what_is_no_id_is_refused_with_a_sentence(given_id: str) -> None:
    if given_id in START_SPELLINGS:
        return
    with pytest.raises(InvalidCursorError, match="Last-Event-ID"):
        parse_cursors(given_id, ["a", "b"], field="Last-Event-ID")


def test_a_forged_cursor_within_an_id_is_refused() -> None:
    said = Cursors(["a"], [Cursor(1, 1)]).id().decode()
    for forged in ("1-1\n", "x", "1-1,1-1", "", "18446744073709551616-1"):
        with pytest.raises(InvalidCursorError):
            parse_cursors(said.replace("1-1", forged), ["a"], field="Last-Event-ID")


def entry(n: int) -> Entry:
    return Entry(Cursor(7, n), "custom.a", None, "2026-01-01T00:00:00.000000Z", b"%d" % n, None, None)


def test_ids_tell_what_was_written_before_them_in_whatever_order_it_was_rendered() -> None:
    rendering = MULTIPLEX_SSE
    first, second, third = (
        rendering.entry("a", entry(1)),
        rendering.entry("b", entry(1)),
        rendering.entry("a", entry(2)),
    )
    seen = Cursors(["a", "b"], [START, START])
    # b waits for its turn while a goes on.
    written = with_ids(first + third, 0, seen) + with_ids(second, 1, seen)
    ids = [line[4:] for line in written.decode().split("\n") if line.startswith("id: ")]
    assert [parse_cursors(each, ["a", "b"], field="id") for each in ids] == [
        [Cursor(7, 1), START],
        [Cursor(7, 2), START],
        [Cursor(7, 2), Cursor(7, 1)],
    ]


def test_only_entries_and_skips_carry_an_id() -> None:
    rendering = MULTIPLEX_SSE
    seen = Cursors(["a"], [START])
    assert b"id:" not in with_ids(rendering.control("stream.open", {"execution_id": "a"}), 0, seen)
    assert with_ids(rendering.heartbeat, 0, seen) == SSE.heartbeat
    assert with_ids(remark(b"retry: 5\n"), 0, seen) == b"retry: 5\n"
    skipped = with_ids(rendering.skipped("a", Cursor(3, 4)), 0, seen)
    told = b'event: stream.cursor\ndata: {"execution_id":"a","id":"3-4"}\n\n'
    assert skipped == b"id: %b\n" % seen.id() + told
