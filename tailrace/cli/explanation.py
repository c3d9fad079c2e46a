"""From any exception to one line and an exit code. The heavy imports happen only once something went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tailrace.cli.errors import CliError
from tailrace.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from pydantic import ValidationError


def explain(error: Exception) -> tuple[ExitCode, str]:
    """Say what happened and how to cure it, in one line."""
    if isinstance(error, ImportError):
        return ExitCode.INTERNAL, f"the installation is incomplete ({error}); install tailrace again"
    from pydantic import ValidationError  # noqa: PLC0415 - see above

    from tailrace import bus  # noqa: PLC0415 - see above

    match error:
        case CliError():
            return error.code, str(error)
        case ValidationError():
            return ExitCode.USAGE, "; ".join(_wrong_settings(error))
        case bus.InvalidInputError():
            return ExitCode.USAGE, str(error)
        case bus.ExecutionUnknownError() | bus.DeadLetterUnknownError():
            return ExitCode.UNKNOWN_EXECUTION, str(error)
        case bus.ControlTimeoutError():
            return ExitCode.NOT_IN_TIME, str(error)
        case (
            bus.ExecutionExistsError()
            | bus.AppendRefusedError()
            | bus.LeaseHeldError()
            | bus.LeaseLostError()
            | bus.ConcurrencyConflictError()
        ):
            return ExitCode.CONFLICT, str(error)
        case bus.BusUnavailableError():
            return (
                ExitCode.BUS,
                f"{str(error).rstrip('. ')}; check that Redis runs there, or name another with --redis-url",
            )
        case bus.BusError():
            return ExitCode.BUS, str(error)
    return ExitCode.INTERNAL, f"{type(error).__name__}: {error}; TAILRACE_DEBUG=1 shows the traceback"


def _wrong_settings(error: ValidationError) -> Iterator[str]:
    for wrong in error.errors():
        field = ".".join(map(str, wrong["loc"]))
        yield f"{field} (TAILRACE_{field.upper()}): {wrong['msg'].removeprefix('Value error, ')}"
