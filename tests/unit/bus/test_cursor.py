"""Cursors come from browsers: whatever they send is a position, or an error that names the field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.bus.errors import InvalidCursorError
from tailrace.bus.model.cursor import START, Cursor, from_id, just_before, parse

parts = st.integers(min_value=0, max_value=2**64 - 1)
cursors = st.builds(Cursor, parts, parts)


@given(cursors)
def test_a_cursor_survives_text_and_bytes(cursor: Cursor) -> None:
    assert parse(str(cursor)) == cursor
    assert from_id(cursor.encode()) == cursor
    assert cursor.encode() == str(cursor).encode()


@given(cursors, cursors)
def test_cursors_are_ordered_as_redis_orders_ids(one: Cursor, other: Cursor) -> None:
    assert (one < other) == (one.ms < other.ms or (one.ms == other.ms and one.n < other.n))


@given(cursors.filter(lambda cursor: cursor != START))
def test_nothing_lies_between_a_cursor_and_the_one_just_before(cursor: Cursor) -> None:
    before = just_before(cursor)
    assert before < cursor
    assert (before.ms, before.n + 1) == cursor or (before.ms + 1, before.n, cursor.n) == (cursor.ms, 2**64 - 1, 0)


@pytest.mark.parametrize("text", ["", "0", "-1", "0-0"])
def test_nothing_zero_and_minus_one_mean_the_start(text: str) -> None:
    assert parse(text) is START


@given(st.text())
def test_any_text_is_a_cursor_or_an_error_that_names_the_field(text: str) -> None:
    try:
        cursor = parse(text, field="Last-Event-ID")
    except InvalidCursorError as refusal:
        error = refusal
    else:
        assert str(cursor) == text or cursor == START
        return
    assert error.field == "Last-Event-ID"
    assert str(error).isprintable()
    assert len(str(error)) < 400


@pytest.mark.parametrize(
    "text",
    [
        "$",
        "+",
        "-",
        "-0",
        "-2",
        "1",
        "5-",
        "-5",
        "5-*",
        "01-1",
        "1-01",
        " 1-1",
        "1-1\n",
        "1-1\r\nid: 9-9",
        "1-1-1",
        "1_0-1",
        "+1-1",
        "1.0-1",
        "0x1-1",
        "٣-١",  # digits to str.isdigit and int, not to Redis  # noqa: RUF001
        "1-1\x00",
        "null",
        "undefined",
        "(1-1",
        f"{2**64}-0",
        f"0-{2**64}",
        "9" * 5000 + "-1",
    ],
)
def test_case_03_a_malformed_cursor_is_refused_before_redis_sees_it(text: str) -> None:
    with pytest.raises(InvalidCursorError, match=r"^cursor: "):
        parse(text)
