from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.bus import InvalidInputError
from tailrace.bus.queries.listing import ListQuery, parse_place, parse_time, place_text


@given(st.integers(0, 10**15 - 1), st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", fullmatch=True))
def test_a_place_is_read_as_it_was_written(ms: int, execution_id: str) -> None:
    assert parse_place(place_text((ms, execution_id))) == (ms, execution_id)


@pytest.mark.parametrize("text", ["", "7", "-x", "x-y", "1-", "1--x", "1-a b", "9" * 16 + "-x", "1-x\n"])
def test_what_no_page_gave_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^cursor: "):
        parse_place(text)


@pytest.mark.parametrize(
    ("text", "unix_ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-01-02T03:04:05.678Z", 1767323045678),
        ("2026-01-02T04:04:05.6789+01:00", 1767323045678),
    ],
)
def test_times_are_unix_milliseconds(text: str, unix_ms: int) -> None:
    assert parse_time(text, field="created_after") == unix_ms


@pytest.mark.parametrize(
    "text", ["", "now", "2026-01-02", "2026-02-30T00:00:00Z", "1969-12-31T00:00:00Z", "2026-01-02T03:04:05"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^created_after: "):
        parse_time(text, field="created_after")


def test_a_page_begins_at_the_cursor_or_the_time_whichever_is_earlier() -> None:
    assert ListQuery().start is None
    assert ListQuery(before_ms=5).start == (5, "")
    assert ListQuery(before_ms=5, cursor=(3, "x")).start == (3, "x")
    assert ListQuery(before_ms=5, cursor=(9, "x")).start == (5, "")
