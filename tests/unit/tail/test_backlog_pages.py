"""A backlog is read in pages of about as many bytes as one can hold, whatever its entries are like."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailrace.bus.log.log import PAGE_ENTRIES
from tailrace.bus.log.subscription import FIRST_ENTRIES, PAGE_BYTES, next_count
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.entry import Entry
from tailrace.bus.model.event import MAX_EVENT_BYTES
from tailrace.bus.model.reading import Page


def page_of(count: int, size: int) -> Page:
    data = b'"%b"' % (b"x" * (size - 2))
    items = [Entry(Cursor(1, n), "custom.x", None, "t", data) for n in range(1, count + 1)]
    return Page([*items], Numbering.after(Cursor(1, count)), more=True)


@given(st.integers(2, 20_000))
def test_pages_come_to_hold_about_what_they_may(size: int) -> None:
    count = FIRST_ENTRIES
    for _ in range(8):
        count = next_count(count, page_of(count, size))
    assert count * size <= PAGE_BYTES
    assert count == PAGE_ENTRIES or count * size * 4 > PAGE_BYTES


def test_the_first_page_of_the_largest_events_is_bounded_and_the_next_is_small_at_once() -> None:
    assert FIRST_ENTRIES * MAX_EVENT_BYTES <= 8 * PAGE_BYTES
    count = next_count(FIRST_ENTRIES, page_of(FIRST_ENTRIES, MAX_EVENT_BYTES))
    assert count * MAX_EVENT_BYTES <= PAGE_BYTES


def test_one_entry_is_always_asked_for() -> None:
    assert next_count(1, page_of(1, 3 * PAGE_BYTES)) == 1
