from __future__ import annotations

import pytest
from pydantic import ValidationError

from tailrace import bus
from tailrace.bus.embedded import EmbeddedServerError
from tailrace.cli.errors import CliError
from tailrace.cli.exit_codes import MEANINGS, ExitCode, table
from tailrace.cli.explanation import explain


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CliError("no"), ExitCode.USAGE),
        (bus.InvalidCursorError("--after", "is broken"), ExitCode.USAGE),
        (bus.ExecutionUnknownError("x"), ExitCode.UNKNOWN_EXECUTION),
        (bus.ExecutionExistsError("x"), ExitCode.CONFLICT),
        (bus.ExecutionClosedError("x", "1-1"), ExitCode.CONFLICT),
        (bus.LeaseHeldError("x", "them"), ExitCode.CONFLICT),
        (bus.ConcurrencyConflictError("x", "key"), ExitCode.CONFLICT),
        (bus.DeadLetterUnknownError("default", "1-0"), ExitCode.UNKNOWN_EXECUTION),
        (bus.ControlTimeoutError("x", "1-1", 5), ExitCode.NOT_IN_TIME),
        (bus.BusUnavailableError("refused"), ExitCode.BUS),
        (EmbeddedServerError("disk full"), ExitCode.BUS),
        (ImportError("No module named 'redis'"), ExitCode.INTERNAL),
        (ZeroDivisionError("ours"), ExitCode.INTERNAL),
    ],
)
def test_every_error_is_one_line_and_a_code(error: Exception, code: ExitCode) -> None:
    given_code, line = explain(error)

    assert given_code is code
    assert line
    assert "\n" not in line


def test_a_wrong_setting_is_named_as_the_user_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_LEASE_SECONDS", "soon")
    with pytest.raises(ValidationError) as refusal:
        bus.BusSettings()

    code, line = explain(refusal.value)

    assert code is ExitCode.USAGE
    assert line.startswith("lease_seconds (TAILRACE_LEASE_SECONDS): ")


def test_exit_codes_are_what_scripts_rely_on() -> None:
    assert {code.name: code.value for code in MEANINGS} == {
        "OK": 0,
        "RUN_FAILED": 1,
        "BUS": 2,
        "PORT_IN_USE": 3,
        "GATEWAY": 4,
        "UNKNOWN_EXECUTION": 5,
        "CONFLICT": 6,
        "NOT_IN_TIME": 7,
        "USAGE": 64,
        "INTERNAL": 70,
        "INTERRUPTED": 130,
    }
    assert all(f"{code.value}  {meaning}" in table() for code, meaning in MEANINGS.items())
