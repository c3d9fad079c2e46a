"""The judge itself: it lets a good log pass and none of the bad ones."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import pytest

from tailrace.bus import Cursor, Entry
from tests.faults.healing.story import check_story
from tests.faults.workers.verdict import check_producers

STARTED, RETRYING, ENDED = "execution.started", "execution.retrying", "execution.completed"


def log_of(*words: str) -> list[Entry]:
    """A word is a type, or a producer and the number of what it says: ``a1``."""
    entries = []
    for n, word in enumerate(words, start=1):
        said = not word.startswith("execution.")
        data = {"producer": word[0], "n": int(word[1:])} if said else {}
        kind = "custom.counted" if said else word
        entries.append(Entry(Cursor(1, n), kind, None, "2026-01-02T03:04:05Z", orjson.dumps(data)))
    return entries


def judge(log: Sequence[Entry]) -> None:
    check_story(log)
    check_producers(log)


def test_a_run_that_was_taken_over_passes() -> None:
    judge(log_of("execution.queued", STARTED, "a1", "a2", RETRYING, STARTED, "b1", ENDED))


@pytest.mark.parametrize(
    "words",
    [
        (STARTED, "a1", "a1", ENDED),
        (STARTED, "a1", "a3", ENDED),
        (STARTED, "a2", "a1", ENDED),
        (STARTED, "a1", RETRYING, STARTED, "b1", "a2", ENDED),
        (STARTED, "a1", RETRYING, "a2", STARTED, "b1", ENDED),
        (STARTED, "a1", "b1", "a2", ENDED),
        (STARTED, "a1"),
        (STARTED, "a1", ENDED, "a2"),
        (STARTED, "a1", ENDED, ENDED),
        (STARTED, "a1", STARTED, ENDED),
        ("execution.queued", "execution.queued", ENDED),
    ],
    ids=[
        "twice", "a hole", "out of order", "a zombie", "late", "two writers", "no ending", "after the ending",
        "two endings", "begun twice", "queued twice",
    ],
)  # fmt: skip
def test_a_log_that_must_not_be_does_not_pass(words: tuple[str, ...]) -> None:
    with pytest.raises(AssertionError):
        judge(log_of(*words))


def test_a_log_of_which_a_number_is_missing_does_not_pass() -> None:
    log = log_of(STARTED, "a1", ENDED)
    with pytest.raises(AssertionError):
        judge([log[0], log[2]])
