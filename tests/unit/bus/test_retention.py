"""Bounds are bounds: none of them may be zero, and the state outlives its log."""

from __future__ import annotations

import dataclasses

import pytest
from pydantic import ValidationError

from tailrace.bus.model.retention import Retention
from tailrace.bus.settings import BusSettings


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Retention)])
@pytest.mark.parametrize("value", [0, -1])
def test_no_bound_can_be_switched_off(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be at least 1"):
        Retention(**{name: value})


def test_a_state_that_would_go_before_its_log_is_refused() -> None:
    """Without its state nothing proves a log's ending, and a viewer would wait for ever."""
    with pytest.raises(ValueError, match="ended_state_seconds"):
        Retention(ended_seconds=100, ended_state_seconds=99)
    assert Retention(ended_seconds=100, ended_state_seconds=100).ended_state_seconds == 100


def test_the_environment_says_the_same_by_the_name_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_MAX_ENTRIES", "7")
    monkeypatch.setenv("TAILRACE_MAX_LOG_BYTES", "70000")
    retention = BusSettings().retention
    assert (retention.max_entries, retention.max_bytes) == (7, 70_000)
    monkeypatch.setenv("TAILRACE_MAX_ENTRIES", "0")
    with pytest.raises(ValidationError, match="max_entries"):
        BusSettings()


def test_a_lease_that_outlives_the_log_is_refused() -> None:
    """The heartbeat keeps a quiet execution from expiring; it must come before the end."""
    with pytest.raises(ValidationError, match="live_seconds"):
        BusSettings(live_seconds=5, lease_seconds=10)
    with pytest.raises(ValidationError, match="ended_state_seconds"):
        BusSettings(ended_seconds=100, ended_state_seconds=99)
