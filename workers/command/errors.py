"""What can be wrong with a command before it runs, and after it should have ended.

* `CommandError`
    * `CommandInvalidError`: no program named, or an argument that no program can be given
    * `CommandCwdError`: the directory to run in is missing or closed
    * `CommandNotFoundError`: no such program
    * `CommandNotExecutableError`: a file, but not one to run
    * `CommandNotStartedError`: the system refused, for want of memory or processes
    * `CommandScreenError`: it ran, but its output could not be shown to who started it
    * `CommandNotEndedError`: it is still there after SIGKILL

Each message is one sentence that a person understands; `code` is stable, for programs. A command that runs and
fails is no error here: that is in its `Exit`.
"""

from __future__ import annotations

from tailrace.workers.errors import WorkerError

_MOST_CHARS = 200


def shown(text: str) -> str:
    """A name in a sentence, which anybody may have made a megabyte long."""
    quoted = repr(text if len(text) <= _MOST_CHARS else text[:_MOST_CHARS])
    return quoted if len(text) <= _MOST_CHARS else f"{quoted}... ({len(text)} characters)"


class CommandError(WorkerError):
    code = "command_error"


class CommandInvalidError(CommandError):
    code = "command_invalid"

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"The command cannot be run because {field} {reason}.")
        self.field = field


class CommandCwdError(CommandError):
    code = "command_cwd"

    def __init__(self, cwd: str, reason: str) -> None:
        super().__init__(f"The directory to run in, {shown(cwd)}, {reason}: check cwd.")
        self.cwd = cwd


class CommandNotFoundError(CommandError):
    code = "command_not_found"

    def __init__(self, program: str) -> None:
        where = "at that path" if "/" in program else "on the worker's PATH"
        super().__init__(
            f"The program {shown(program)} was not found {where}: check its name, or install it where the worker runs."
        )
        self.program = program


class CommandNotExecutableError(CommandError):
    code = "command_not_executable"

    def __init__(self, program: str, reason: str) -> None:
        super().__init__(f"The program {shown(program)} cannot be run because {reason}.")
        self.program = program


class CommandNotStartedError(CommandError):
    code = "command_not_started"

    def __init__(self, program: str, reason: str) -> None:
        super().__init__(f"The program {shown(program)} could not be started ({reason}): try again later.")
        self.program = program


class CommandScreenError(CommandError):
    code = "command_screen"

    def __init__(self, stream: str, reason: str) -> None:
        super().__init__(f"The program was ended because its {stream} could not be written here ({reason}).")


class CommandNotEndedError(CommandError):
    code = "command_not_ended"

    def __init__(self, program: str, pid: int) -> None:
        super().__init__(
            f"The program {shown(program)} (process {pid}) still runs though it was killed: it belongs to another user "
            "or waits for a device, so end it by hand."
        )
        self.program = program
        self.pid = pid
