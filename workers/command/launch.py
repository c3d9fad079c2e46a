"""From what the user asked for to a running child, or to the sentence that says why not."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tailrace.workers.command.errors import (
    CommandCwdError,
    CommandInvalidError,
    CommandNotExecutableError,
    CommandNotFoundError,
    CommandNotStartedError,
    shown,
)


def launch(
    argv: Sequence[str],
    *,
    cwd: str | None,
    env: Mapping[str, str] | None,
    pass_fds: Sequence[int] = (),
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    """Start `argv` in a session of its own, its output in pipes or those descriptors. Raises a `CommandError`."""
    environment = {"PYTHONUNBUFFERED": "1", **(os.environ if env is None else env)}
    _check_argv(argv)
    _check_environment(environment)
    if cwd is not None:
        _check_cwd(cwd)
    try:
        return subprocess.Popen(  # noqa: S603 - running what the user asks for is what this is for; no shell sees it
            argv,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            bufsize=0,
            start_new_session=True,
            pass_fds=pass_fds,
        )
    except OSError as error:
        raise _explained(error, argv[0], cwd, environment) from error


def _check_argv(argv: Sequence[str]) -> None:
    if isinstance(argv, str):
        raise CommandInvalidError("argv", "is a string: give a list, the program first, then each argument")
    if not argv or not argv[0]:
        raise CommandInvalidError("argv", "names no program: give a list, the program first, then each argument")
    for index, argument in enumerate(argv):
        _check_text(f"argv[{index}]", argument)


def _check_environment(environment: Mapping[str, str]) -> None:
    for name, value in environment.items():
        if not name or "=" in name:
            raise CommandInvalidError(f"env[{shown(name)}]", "is not the name of a variable: leave out the '='")
        _check_text(f"env[{shown(name)}]", name)
        _check_text(f"env[{shown(name)}]", value)


def _check_text(field: str, text: str) -> None:
    if "\x00" in text:
        raise CommandInvalidError(field, "holds a NUL character, which no program can be given: leave it out")
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:  # half of a surrogate pair: JSON can spell it, no encoding can
        raise CommandInvalidError(field, f"is not encodable ({error.reason}): replace the broken character") from error


def _check_cwd(cwd: str) -> None:
    _check_text("cwd", cwd)
    directory = Path(cwd)
    try:
        exists = directory.exists()
        is_directory = directory.is_dir()
    except OSError as error:
        raise CommandCwdError(cwd, f"cannot be reached ({error.strerror})") from error
    if not exists:
        raise CommandCwdError(cwd, "does not exist on the worker's machine")
    if not is_directory:
        raise CommandCwdError(cwd, "is not a directory")
    if not os.access(directory, os.X_OK):
        raise CommandCwdError(cwd, "is closed to the worker's user")


def _explained(
    error: OSError, program: str, cwd: str | None, environment: Mapping[str, str]
) -> CommandInvalidError | CommandNotFoundError | CommandNotExecutableError | CommandNotStartedError:
    if error.errno == errno.E2BIG:
        return CommandInvalidError("argv", "and the environment are longer than the system takes: pass a file instead")
    missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
    if not missing and error.errno not in (errno.EACCES, errno.ENOEXEC):
        return CommandNotStartedError(program, error.strerror or type(error).__name__)
    file = _located(program, cwd, environment)
    if file is None:
        return CommandNotFoundError(program)
    if missing:
        return CommandNotExecutableError(program, "the interpreter named in its first line is missing: install it")
    if file.is_dir():
        return CommandNotExecutableError(program, "it is a directory: name a program in it")
    if error.errno == errno.ENOEXEC:
        return CommandNotExecutableError(
            program, "it is neither a program for this machine nor a script with a #! line: put its interpreter first"
        )
    return CommandNotExecutableError(program, "the worker's user may not execute it: run chmod +x on it")


def _located(program: str, cwd: str | None, environment: Mapping[str, str]) -> Path | None:
    """The file that was meant, be it executable or not."""
    directories = [cwd or "."] if "/" in program else os.get_exec_path(environment)
    for directory in directories:
        candidate = Path(directory, program)
        try:
            if candidate.exists() and ("/" in program or candidate.is_file()):
                return candidate
        except OSError:  # a directory of the PATH that is closed to us
            continue
    return None
