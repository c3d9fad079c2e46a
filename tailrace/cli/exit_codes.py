"""What the command line's exit codes mean. Stable: scripts rely on them."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class ExitCode(IntEnum):
    OK = 0
    RUN_FAILED = 1
    BUS = 2
    PORT_IN_USE = 3
    GATEWAY = 4
    UNKNOWN_EXECUTION = 5
    CONFLICT = 6
    NOT_IN_TIME = 7
    USAGE = 64  # sysexits.h EX_USAGE
    INTERNAL = 70  # sysexits.h EX_SOFTWARE
    NOT_EXECUTABLE = 126  # as in a POSIX shell
    NOT_FOUND = 127  # as in a POSIX shell
    INTERRUPTED = 130  # 128 + SIGINT, as in a POSIX shell


MEANINGS: Final = {
    ExitCode.OK: "success; for a watched execution: it completed",
    ExitCode.RUN_FAILED: "failure; for a watched execution: it failed, was cancelled or timed out",
    ExitCode.BUS: "Redis cannot be reached, or refuses",
    ExitCode.PORT_IN_USE: "the port is already in use",
    ExitCode.GATEWAY: "no gateway answers, or it refuses",
    ExitCode.UNKNOWN_EXECUTION: "no such execution or dead letter",
    ExitCode.CONFLICT: "the execution exists already, has ended, or has another owner",
    ExitCode.NOT_IN_TIME: "not answered within --wait; the request still stands",
    ExitCode.USAGE: "an argument or setting is wrong",
    ExitCode.INTERNAL: "a bug in Tailrace",
    ExitCode.INTERRUPTED: "Ctrl-C",
}


def table() -> str:
    """The codes as they stand in the help."""
    return "\n".join(f"  {code.value:>3}  {meaning}" for code, meaning in MEANINGS.items())
