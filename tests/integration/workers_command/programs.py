"""Programs to run, and a look at what is left of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import anyio

from tailrace.workers.command.process import Process
from tests.patience import patient


def python(source: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", source, *arguments]


async def first_line(process: Process) -> str:
    async for line in process.lines():
        return line.text
    raise AssertionError("the program wrote nothing")


def is_running(pid: int) -> bool:
    """Whether `pid` is a process that is not yet a zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def is_known(pid: int) -> bool:
    """Whether the system still remembers `pid`, if only as a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def open_descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process does, which no event of ours tells."""
    with anyio.fail_after(patient(10)):
        while not condition():  # noqa: ASYNC110 - see above
            await anyio.sleep(0.01)


async def until_gone(pid: int) -> None:
    await until(lambda: not is_running(pid))
