"""Whose number it is: ours, or one that Redis gave to a stranger's entry."""

from __future__ import annotations

import pytest

from tailrace.bus.model.continuity import Numbering, number_at
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.event import MAX_EVENT_BYTES
from tailrace.bus.model.reading import read_proved


@pytest.mark.parametrize(
    ("numbers", "at", "number"),
    [
        ([5], 5, 5),
        ([5, 6, 7], 7, 7),
        ([0], 0, None),
        ([0, 1, 2], 2, None),
        ([0, 1, 9], 9, 9),
        ([0, 1, 9, 10], 10, 10),
        ([0, 1, 2, 3], 1, None),
        ([3, 0], 3, 3),
    ],
    ids=[
        "ours",
        "ours in a row",
        "a stranger's",
        "strangers in a row",
        "ours behind strangers",
        "two of ours behind strangers",
        "only up to the cursor",
        "the first of its millisecond",
    ],
)
def test_the_number_at_an_entry_is_that_of_the_last_of_ours(numbers: list[int], at: int, number: int | None) -> None:
    assert number_at(Cursor(5, at), [Cursor(5, n) for n in numbers]) == number


def test_what_fell_in_behind_a_stranger_is_no_number_of_ours_while_ours_is_unknown() -> None:
    cursors = [Cursor(6, 1), Cursor(6, 2), Cursor(7, 11), Cursor(8, 12)]
    raw = [[cursor.encode(), [b"t", b"a"]] for cursor in cursors]
    items, at = read_proved(Numbering.after(Cursor(6, 0)), raw, MAX_EVENT_BYTES)
    assert len(items) == len(cursors)
    assert at == Numbering(Cursor(8, 12), 12)


@pytest.mark.parametrize(
    ("behind", "sure"),
    [
        ([], False),
        ([Cursor(7, 0)], False),
        ([Cursor(6, 5)], False),
        ([Cursor(6, 5), Cursor(7, 0), Cursor(7, 1)], False),
        ([Cursor(7, 5)], True),
        ([Cursor(7, 0), Cursor(7, 5)], True),
    ],
)
def test_a_resumed_number_is_in_doubt_until_one_that_only_we_can_have_written(behind: list[Cursor], sure: bool) -> None:
    resumed = Numbering.after(Cursor(6, 4))
    for cursor in behind:
        assert resumed.copy().follows(cursor)
        assert resumed.follows(cursor)
    assert (resumed.origin is None) == sure
