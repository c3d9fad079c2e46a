"""Finds processes that tests started and did not end.

Each process inherits the session's mark in its environment and so cannot hide by leaving the process group,
the session or its parent. Zombies have no environment any more: those are looked up as our own children.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

from tests.patience import patient

MARK_VARIABLE: Final = "TAILRACE_TEST_SESSION"

# A server that its last user just left may take a moment to stop by itself.
GRACE_SECONDS: Final = 10.0


def end_leftovers(mark: str, *, grace_seconds: float = GRACE_SECONDS) -> list[str]:
    """Wait for all processes with this mark to end; describe, then SIGKILL, those that have not by then."""
    deadline = time.monotonic() + patient(grace_seconds)
    while (leftovers := find_leftovers(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in leftovers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return [f"{pid} {command}" for pid, command in leftovers.items()]


def find_leftovers(mark: str) -> dict[int, str]:
    """Process id to command line, ourselves excepted. Empty where there is no /proc."""
    needle = f"{MARK_VARIABLE}={mark}".encode()
    found: dict[int, str] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        # A process may end at any time, and those of other users cannot be read: neither is ours.
        with contextlib.suppress(OSError):
            if pid != os.getpid() and (_is_zombie_child(entry) or needle in _environment(entry)):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                found[pid] = command or "(zombie: ended, and nobody waited for it)"
    return found


def _environment(entry: Path) -> list[bytes]:
    return (entry / "environ").read_bytes().split(b"\0")


def _is_zombie_child(entry: Path) -> bool:
    # The command name stands in parentheses and may itself contain some: the last one ends it.
    state, parent_pid = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
    return state == "Z" and int(parent_pid) == os.getpid()
