"""From any exception to one line and an exit code. The heavy imports happen only once something went wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from tailrace.cli.errors import CliError
from tailrace.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from pydantic import ValidationError


def explain(error: Exception) -> tuple[ExitCode, str]:
    """Say what happened and how to cure it, in one line."""
    if isinstance(error, ImportError) or (isinstance(error, AttributeError) and isinstance(error.obj, ModuleType)):
        return _wrong_import(error)
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
        case bus.ReplyError(code="WRONGPASS" | "NOAUTH"):
            return ExitCode.BUS, f"{error}; check the user and password in --redis-url, or in TAILRACE_REDIS_URL"
        case bus.ReplyError(code="NOPERM"):
            return ExitCode.BUS, f"{error}; allow it in the ACL of this user of Redis"
        case bus.ReplyError():
            return ExitCode.BUS, str(error)
        case bus.BusUnavailableError():
            return (
                ExitCode.BUS,
                f"{str(error).rstrip('. ')}; check that Redis is running there, or name another with --redis-url",
            )
        case bus.BusError():
            return ExitCode.BUS, str(error)
        case OSError():
            of = f"{error.filename}: " if error.filename else ""
            return ExitCode.RUN_FAILED, f"{of}{error.strerror or error}"
        case UnicodeEncodeError():
            return ExitCode.USAGE, f"{error.object[:200]!r} is not text in UTF-8; rename it, or give it in another way"
    return ExitCode.INTERNAL, f"{type(error).__name__}: {error}; TAILRACE_DEBUG=1 shows the traceback"


def _wrong_import(error: ImportError | AttributeError) -> tuple[ExitCode, str]:
    """Something is missing, or something of the user's bears the name of what we need."""
    module = getattr(error.obj, "__name__", None) if isinstance(error, AttributeError) else error.name
    package = (module or "").partition(".")[0]
    found = getattr(error, "path", None) or getattr(sys.modules.get(package), "__file__", None)
    if found is not None and _is_users_own(Path(found)):
        clash = f"{found} is imported in place of the package {package!r} that Tailrace needs ({error})"
        return ExitCode.USAGE, f"{clash}; rename it, or start the command in another folder"
    return ExitCode.INTERNAL, f"the installation is incomplete ({error}); install tailrace again"


def _is_users_own(file: Path) -> bool:
    installed = (Path(sys.prefix), Path(sys.base_prefix), Path(__file__).resolve().parents[1])
    return file.is_relative_to(Path.cwd()) and not any(file.is_relative_to(place) for place in installed)


def _wrong_settings(error: ValidationError) -> Iterator[str]:
    for wrong in error.errors():
        field = ".".join(map(str, wrong["loc"]))
        yield f"{field} (TAILRACE_{field.upper()}): {wrong['msg'].removeprefix('Value error, ')}"
