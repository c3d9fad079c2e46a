from __future__ import annotations

import pytest
from pydantic import ValidationError

from tailrace.workers import WorkerSettings


def test_queues_come_from_the_environment_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_QUEUES", "urgent, default,urgent")
    assert WorkerSettings().queues == ("urgent", "default")


def test_programs_are_not_allowed_unless_the_operator_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert WorkerSettings().allow_command is False
    monkeypatch.setenv("TAILRACE_ALLOW_COMMAND", "1")
    assert WorkerSettings().allow_command is True


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("queues", ""),
        ("queues", "a}b"),
        ("queues", "a b"),
        ("concurrency", "0"),
        ("concurrency", "many"),
        ("drain_seconds", "-1"),
        ("worker_name", "line\nbreak"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"TAILRACE_{name.upper()}", value)
    with pytest.raises(ValidationError, match=name):
        WorkerSettings()
