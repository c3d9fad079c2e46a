"""Filtering by mode: what a graph keeps in its state, what its nodes write, or both."""

from __future__ import annotations

import pytest

from tailrace.bus.errors import InvalidInputError
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.entry import Entry
from tailrace.bus.model.filter import Filter, check_mode


def entry(meta: bytes | None, event_type: str = "custom.probe") -> Entry:
    return Entry(Cursor(1, 1), event_type, None, "2026-01-01T00:00:00.000000Z", b"1", meta, None)


@pytest.mark.parametrize(
    ("meta", "shown_in"),
    [
        (b'{"mode":"values"}', {"values"}),
        (b'{"mode":"custom"}', {"custom"}),
        (b'{"mode":"another"}', set()),
        (b'{"other":1}', {"values", "custom"}),
        (b'{"mode":7}', {"values", "custom"}),
        (b"[1]", {"values", "custom"}),
        (None, {"values", "custom"}),
    ],
)
def test_an_event_is_shown_in_its_own_mode_and_one_without_in_all(meta: bytes | None, shown_in: set[str]) -> None:
    assert {mode for mode in ("values", "custom") if Filter(mode=mode).wants(entry(meta))} == shown_in


def test_debug_leaves_nothing_out() -> None:
    assert check_mode("debug") is None


def test_the_ending_is_shown_whatever_its_mode() -> None:
    assert Filter(mode="custom").wants(entry(b'{"mode":"values"}', "execution.completed"))


@pytest.mark.parametrize("mode", ["", "Values", "all", "values\n", "x" * 100])
def test_an_unknown_mode_is_refused_by_name(mode: str) -> None:
    with pytest.raises(InvalidInputError, match="values, updates, custom, messages, tasks, checkpoints, debug"):
        check_mode(mode)
