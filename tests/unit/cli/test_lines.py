from __future__ import annotations

from typing import Any

import pytest

from tailrace.cli.text.lines import event_line, gap_line

TS = "2026-01-02T03:04:05.678901Z"


@pytest.mark.parametrize(
    ("event_type", "step", "data", "line"),
    [
        ("execution.started", None, {"attempt": 1}, '03:04:05.678 execution.started    {"attempt":1}'),
        ("step.started", "fetch", None, "03:04:05.678 step.started         fetch:"),
        ("step.progress", "fetch", {"progress": 0.4}, "03:04:05.678 step.progress        fetch: 40%"),
        ("step.progress", "f", {"progress": 1, "message": "all"}, "03:04:05.678 step.progress        f: 100% all"),
        ("token", "s", {"text": "word "}, "03:04:05.678 token                s: word"),
        ("log", None, {"text": "a line", "stream": "stdout"}, "03:04:05.678 log                  a line"),
        ("execution.failed", None, {"message": "No.", "reason": "x"}, "03:04:05.678 execution.failed     No."),
        ("custom.thing", None, [1, "ü"], '03:04:05.678 custom.thing         [1,"ü"]'),
        ("log", None, {"text": "\x1b[2J"}, "03:04:05.678 log                  \\x1b[2J"),
        ("log", None, "no object", '03:04:05.678 log                  "no object"'),
    ],
)
def test_an_event_is_one_readable_line(event_type: str, step: str | None, data: Any, line: str) -> None:
    assert event_line(event_type, step, TS, data) == line


def test_a_time_that_is_none_does_no_harm() -> None:
    assert event_line("log", None, "\x1b]0;", {"text": "x"}).endswith("log                  x")


def test_huge_data_is_cut() -> None:
    assert len(event_line("custom.a", "s", TS, {"x": "y" * 10_000})) < 500


def test_a_gap_says_what_is_missing() -> None:
    assert "after 1-1 the log goes on with 9-9" in gap_line(
        {"reason": "trimmed", "requested": "1-1", "earliest": "9-9"}
    )
    assert "after 1-1 the log holds nothing" in gap_line({"reason": "expired", "requested": "1-1", "earliest": None})
