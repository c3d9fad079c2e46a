"""Processes that a command starts on this machine, and that end with it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tailrace.cli.errors import CliError
from tailrace.cli.exit_codes import ExitCode
from tailrace.cli.processes.parent_pipe import ParentPipe

POLL_SECONDS: Final = 0.05
READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 5.0
ORPHAN_SECONDS: Final = 2.0
SHOWN_LOG_LINES: Final = 15


class ChildError(CliError):
    """A child did not start, or died; the message has the last lines of its log."""

    def __init__(self, child: Child, what: str) -> None:
        said = child.last_words()
        # One that was killed, or came up too slowly, is no defect: somebody or the machine did it.
        code = _CODES.get(child.exit_code or 0, ExitCode.RUN_FAILED)
        super().__init__(f"the {child.name} {what}" + (f"; it said:\n{said}" if said else "; it said nothing"), code)
        self.child = child


_CODES: Final = {code.value: code for code in (ExitCode.BUS, ExitCode.PORT_IN_USE, ExitCode.USAGE, ExitCode.INTERNAL)}


class Child:
    def __init__(self, name: str, process: subprocess.Popen[bytes], log_path: Path, log_begins: int = 0) -> None:
        """``log_begins`` is how many bytes of the log are of its predecessors."""
        self.name = name
        self.log_path = log_path
        self._process = process
        self._log_begins = log_begins

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number when a signal ended it."""
        return self._process.poll()

    @property
    def running(self) -> bool:
        return self.exit_code is None

    def kill(self) -> None:
        self._process.kill()

    def terminate(self) -> None:
        self._process.terminate()

    async def wait(self) -> int:
        while (code := self.exit_code) is None:  # noqa: ASYNC110 - asyncio's own child watcher would need its own start
            await asyncio.sleep(POLL_SECONDS)
        return code

    def said(self) -> str:
        try:
            return self.log_path.read_bytes()[self._log_begins :].decode(errors="replace")
        except OSError:
            return ""

    def last_words(self) -> str:
        return "\n".join(f"    {line}" for line in self.said().splitlines()[-SHOWN_LOG_LINES:])


class Children:
    """Starts ``tailrace`` processes; leaving the block ends all of them.

    They run in sessions of their own: Ctrl-C reaches only us, who end them in order. Should we be killed ourselves,
    the parent pipe ends them.
    """

    def __init__(
        self, log_directory: Path, *, stop_seconds: float = STOP_SECONDS, orphan_seconds: float = ORPHAN_SECONDS
    ) -> None:
        self.log_directory = log_directory
        self._stop_seconds = stop_seconds
        self.all: list[Child] = []
        self._parent_pipe = ParentPipe(orphan_seconds)

    def start(self, name: str, *arguments: str) -> Child:
        """Run ``tailrace <arguments>``; it speaks to ``<name>.log``, behind what one of that name said before."""
        log_path = self.log_directory / f"{name.replace(' ', '-')}.log"
        again = any(child.name == name for child in self.all)
        with log_path.open("ab" if again else "wb") as log:
            begins = log.tell()
            process = subprocess.Popen(
                # -P: what lies in the user's directory, say a bus.py, is not ours to import.
                [sys.executable, "-P", "-m", "tailrace", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self._parent_pipe.environment()},
                pass_fds=(self._parent_pipe.read_descriptor,),
                start_new_session=True,
            )
        child = Child(name, process, log_path, begins)
        self.all.append(child)
        return child

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end_all()

    async def end_all(self) -> None:
        """SIGTERM to all at once, SIGKILL to those that take too long; all are reaped."""
        for child in self.all:
            if child.running:
                child.terminate()
        try:
            async with asyncio.timeout(self._stop_seconds):
                await asyncio.gather(*(child.wait() for child in self.all))
        except TimeoutError:
            for child in self.all:
                if child.running:
                    child.kill()
            await asyncio.gather(*(child.wait() for child in self.all))
        finally:
            self._parent_pipe.close()


async def wait_ready(
    child: Child, probe: Callable[[], Awaitable[bool]], *, timeout_seconds: float = READY_SECONDS
) -> None:
    """Poll until the probe says yes. Raises ChildError when the child ends first, or takes too long."""
    try:
        async with asyncio.timeout(timeout_seconds):
            while not await probe():
                check_running(child)
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise ChildError(child, f"was not ready within {timeout_seconds:g} s") from None
    # Somebody else may have answered at its address.
    check_running(child)


def check_running(child: Child) -> None:
    """Raises ChildError when it is not."""
    how = death_of(child)
    if how is not None:
        raise ChildError(child, how)


def death_of(child: Child) -> str | None:
    """How it ended, for a sentence; None while it runs."""
    code = child.exit_code
    return None if code is None else ending_of(code)


def ending_of(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
