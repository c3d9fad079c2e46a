"""What the operating system knows of an embedded server."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import redis

from tests.patience import patient


def wait_until(condition: Callable[[], bool], *, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + patient(seconds)
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds:g} s"
        time.sleep(0.01)


def server_pid(url: str) -> int:
    with redis.Redis.from_url(url, socket_timeout=5) as client:
        return cast("int", cast("dict[str, Any]", client.info("server"))["process_id"])


def parent_pid(pid: int) -> int:
    """Of a server, its supervisor."""
    return int(_stat(pid)[1])


def is_alive(pid: int) -> bool:
    # An orphan that ended may stay a zombie for as long as the machine's init likes: that is not alive.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return _stat(pid)[0] != "Z"
    return False


def zombie_children() -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, parent = _stat(int(entry.name))
            if state == "Z" and int(parent) == os.getpid():
                found.append(int(entry.name))
    return found


def processes_of(directory: Path) -> list[str]:
    """Command lines of all supervisors and servers of this directory."""
    needle = str(directory)
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if needle in command and ("supervisor.py" in command or "valkey-server" in command):
                found.append(command)
    return found


def _stat(pid: int) -> tuple[str, str]:
    """State and parent."""
    fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return fields[0], fields[1]
