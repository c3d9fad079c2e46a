from __future__ import annotations

import pytest

from tailrace.cli.errors import CliError
from tailrace.cli.text.ages import age, point_in_time

NOW = 1767323045.678  # 2026-01-02T03:04:05.678Z


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0s"),
        (0, "0s"),
        (42.9, "42s"),
        (60, "1m00s"),
        (187, "3m07s"),
        (7500, "2h05m"),
        (86400, "1d00h"),
        (5 * 86400 + 11 * 3600, "5d11h"),
    ],
)
def test_an_age_has_two_units_at_most(seconds: float, shown: str) -> None:
    assert age("2026-01-02T03:04:05.678000Z", NOW + seconds) == shown


def test_no_time_has_no_age() -> None:
    assert age(None, NOW) == ""


@pytest.mark.parametrize(
    ("given", "at"),
    [
        ("0s", "2026-01-02T03:04:05.678Z"),
        ("90m", "2026-01-02T01:34:05.678Z"),
        ("2d", "2025-12-31T03:04:05.678Z"),
        ("2026-01-02T04:04:05+01:00", "2026-01-02T03:04:05.000Z"),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"),
    ],
)
def test_a_time_is_itself_or_so_long_ago(given: str, at: str) -> None:
    assert point_in_time(given, NOW, option="--since") == at


def test_a_date_is_of_the_clock_on_this_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC-2")
    time.tzset()
    try:
        assert point_in_time("2026-01-02", NOW, option="--since") == "2026-01-01T22:00:00.000Z"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("given", ["", "yesterday", "5", "5y", "-5m", "999999999w", "2026-02-30"])
def test_what_is_no_time_names_the_option(given: str) -> None:
    with pytest.raises(CliError, match=r"^--since: "):
        point_in_time(given, NOW, option="--since")
