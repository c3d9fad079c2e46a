"""The rule of resuming, case by case; test_continuity_model.py looks for what these did not think of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.bus.model.continuity import Extent, Numbering, gap_at, is_proved, resume_point
from tailrace.bus.model.cursor import START, Cursor
from tailrace.bus.model.entry import Entry, Gap
from tailrace.bus.model.event import MAX_EVENT_BYTES
from tailrace.bus.model.reading import RawEntry, read_plain, read_proved

EMPTY = Extent(None, None, 0, 0)


def raw(*cursors: Cursor, event_type: bytes = b"a") -> list[RawEntry]:
    return [[cursor.encode(), [b"t", event_type]] for cursor in cursors]


def ours(first: int, last: int) -> list[Cursor]:
    return [Cursor(1000 + n, n) for n in range(first, last + 1)]


def extent(first: Cursor, last: Cursor, *, length: int, added: int) -> Extent:
    return Extent(first, last, length, added)


@pytest.mark.parametrize(
    ("requested", "first", "proved"),
    [
        (START, Cursor(5, 1), True),
        (START, Cursor(5, 2), None),
        (START, Cursor(5, 0), None),
        (START, None, None),
        (Cursor(5, 3), Cursor(5, 3), True),
        (Cursor(5, 3), Cursor(6, 4), None),
        (Cursor(5, 3), None, None),
    ],
)
def test_only_the_cursor_itself_or_a_first_entry_proves_by_the_ids_alone(
    requested: Cursor, first: Cursor | None, proved: bool | None
) -> None:
    assert is_proved(requested, first) is proved


def test_a_log_that_never_was_is_no_loss_from_the_start() -> None:
    assert gap_at(START, None, EMPTY, known_entries=0) is None


@pytest.mark.parametrize(
    ("requested", "known_entries", "reason"),
    [(START, 3, "expired"), (Cursor(5, 3), 3, "expired"), (Cursor(5, 3), 0, "flushed")],
)
def test_case_08_an_expired_log_is_a_gap_that_bounds_nothing(
    requested: Cursor, known_entries: int, reason: str
) -> None:
    assert gap_at(requested, None, EMPTY, known_entries=known_entries) == Gap(requested, None, None, reason)  # type: ignore[arg-type]


def test_case_01_a_trimmed_start_is_a_gap() -> None:
    log = extent(Cursor(1004, 4), Cursor(1009, 9), length=6, added=9)
    assert gap_at(START, Cursor(1004, 4), log, known_entries=9) == Gap(
        START, Cursor(1004, 4), Cursor(1009, 9), "trimmed"
    )


def test_a_log_of_ours_that_begins_anew_above_one_is_no_whole_log() -> None:
    log = extent(Cursor(1004, 4), Cursor(1005, 5), length=2, added=2)
    gap = gap_at(START, Cursor(1004, 4), log, known_entries=5)
    assert gap is not None
    assert gap.reason == "flushed"


def test_a_log_of_strangers_is_whole_when_as_many_are_left_as_were_added() -> None:
    assert gap_at(START, Cursor(7, 0), extent(Cursor(7, 0), Cursor(9, 0), length=3, added=3), known_entries=0) is None
    assert gap_at(START, Cursor(7, 0), extent(Cursor(7, 0), Cursor(9, 0), length=3, added=4), known_entries=0)


def test_a_trimmed_cursor_is_no_loss_when_its_successor_is_the_first_that_is_left() -> None:
    log = extent(Cursor(1004, 4), Cursor(1009, 9), length=6, added=9)
    assert gap_at(Cursor(1003, 3), Cursor(1004, 4), log, known_entries=9) is None


@pytest.mark.parametrize(
    ("requested", "first", "log", "reason"),
    [
        (Cursor(1002, 2), Cursor(1004, 4), extent(Cursor(1004, 4), Cursor(1009, 9), length=6, added=9), "trimmed"),
        (Cursor(1003, 0), Cursor(1004, 4), extent(Cursor(1004, 4), Cursor(1009, 9), length=6, added=9), "trimmed"),
        (Cursor(1003, 3), Cursor(1005, 0), extent(Cursor(1005, 0), Cursor(1009, 9), length=6, added=9), "trimmed"),
        (Cursor(1003, 3), Cursor(1004, 4), extent(Cursor(1004, 4), Cursor(1009, 9), length=6, added=6), "flushed"),
        (Cursor(1003, 3), Cursor(2001, 1), extent(Cursor(2001, 1), Cursor(2009, 9), length=9, added=9), "flushed"),
        (Cursor(1003, 3), Cursor(1005, 5), extent(Cursor(1001, 1), Cursor(1009, 9), length=7, added=9), "hole"),
        (Cursor(1003, 3), Cursor(1004, 4), extent(Cursor(1001, 1), Cursor(1009, 9), length=8, added=9), "rewound"),
        (Cursor(1009, 9), None, extent(Cursor(1001, 1), Cursor(1006, 6), length=6, added=6), "rewound"),
    ],
    ids=[
        "trimmed beyond",
        "trimmed at a stranger, who has no number",
        "trimmed to a stranger, who has no number",
        "successor by chance: this log was never trimmed",
        "begun anew",
        "deleted together with the next",
        "never in this log, whose older entries are there",
        "ahead of the tail",
    ],
)
def test_case_02_a_cursor_that_is_not_in_the_log_is_a_gap(
    requested: Cursor, first: Cursor | None, log: Extent, reason: str
) -> None:
    gap = gap_at(requested, first, log, known_entries=9)
    assert gap == Gap(requested, log.earliest, log.latest, reason)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gap", "point"),
    [
        (Gap(Cursor(5, 5), None, None, "flushed"), START),
        (Gap(Cursor(5, 5), Cursor(7, 7), Cursor(9, 9), "trimmed"), Cursor(5, 5)),
        (Gap(Cursor(9, 9), Cursor(1, 1), Cursor(6, 6), "rewound"), Cursor(6, 6)),
    ],
)
def test_after_a_gap_one_reads_on_from_where_the_log_goes_on(gap: Gap, point: Cursor) -> None:
    assert resume_point(gap) == point


@given(st.integers(1, 30), st.integers(0, 30))
def test_entries_of_ours_in_a_row_follow_without_question(first: int, count: int) -> None:
    numbering = Numbering.after(Cursor(1000, first))
    entries = read_plain(numbering, raw(*ours(first + 1, first + count)), MAX_EVENT_BYTES)
    assert entries is not None
    assert len(entries) == count
    assert numbering.number == first + count


@given(st.integers(2, 30), st.integers(0, 60))
def test_any_other_number_of_ours_must_be_proved_and_moves_nothing(at: int, number: int) -> None:
    numbering = Numbering.after(Cursor(1000, at))
    plain = read_plain(numbering, raw(Cursor(2000, number)), MAX_EVENT_BYTES)
    assert (plain is None) == (number not in {0, at + 1})
    if plain is None:
        assert numbering == Numbering(Cursor(1000, at), at)


def test_strangers_between_ours_follow_without_question() -> None:
    log = [Cursor(10, 1), Cursor(10, 2), Cursor(11, 0), Cursor(11, 1), Cursor(12, 3), Cursor(13, 0)]
    assert read_plain(Numbering.after(START), raw(*log), MAX_EVENT_BYTES)


def test_a_stranger_who_takes_our_number_costs_a_second_look_and_no_gap() -> None:
    # Ours 1, 2; a stranger in the same millisecond is numbered 3; ours 3 comes in the next one.
    log = [Cursor(10, 1), Cursor(10, 2), Cursor(10, 3), Cursor(11, 3), Cursor(12, 4)]
    assert read_plain(Numbering.after(START), raw(*log), MAX_EVENT_BYTES) is None
    items, at = read_proved(Numbering.after(START), raw(*log), MAX_EVENT_BYTES)
    assert [item.cursor for item in items if isinstance(item, Entry)] == log
    assert at == Numbering(Cursor(12, 4), 4)


def test_a_loss_after_a_stranger_took_our_number_is_still_told() -> None:
    log = [Cursor(10, 1), Cursor(10, 2), Cursor(11, 2), Cursor(13, 4)]
    items, _ = read_proved(Numbering.after(START), raw(*log), MAX_EVENT_BYTES)
    assert items[3] == Gap(Cursor(11, 2), Cursor(13, 4), Cursor(13, 4), "hole")


def test_after_a_strangers_entry_the_first_number_must_be_proved() -> None:
    assert read_plain(Numbering.after(Cursor(10, 0)), raw(Cursor(11, 7)), MAX_EVENT_BYTES) is None


@given(st.sets(st.integers(1, 40), max_size=40))
def test_each_hole_in_a_proved_stretch_is_one_gap_in_its_place(kept: set[int]) -> None:
    items, _ = read_proved(Numbering.after(START), raw(*[Cursor(n, n) for n in sorted(kept)]), MAX_EVENT_BYTES)
    expected: list[int | None] = []
    for n in sorted(kept):
        if n - 1 not in kept and n > 1:
            expected.append(None)
        expected.append(n)
    assert [None if isinstance(item, Gap) else item.cursor.n for item in items] == expected


def test_an_entry_that_claims_the_ending_must_be_proved() -> None:
    numbering = Numbering.after(START)
    assert read_plain(numbering, raw(Cursor(10, 1), event_type=b"execution.completed"), MAX_EVENT_BYTES) is None
    assert numbering == Numbering.after(START)
