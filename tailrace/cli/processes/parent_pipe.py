"""A pipe that ends the children when their parent dies, however it dies.

The parent holds the write end and never writes; each child reads the other end. When the parent dies, even by SIGKILL,
the kernel closes the pipe and the read returns. The child then sends itself SIGTERM, again after HURRY_SECONDS, and
exits if neither helped. Unlike prctl(PR_SET_PDEATHSIG) this works on macOS too and does not depend on threads.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from typing import Final

VARIABLE: Final = "TAILRACE_PARENT_PIPE"
# A second SIGTERM tells a gateway or worker not to wait for viewers or executions.
HURRY_SECONDS: Final = 0.5


class ParentPipe:
    """``orphan_seconds`` is what a child has to end in order after its parent died."""

    def __init__(self, orphan_seconds: float) -> None:
        self.read_descriptor, self._write_descriptor = os.pipe()
        self._orphan_seconds = orphan_seconds

    def environment(self) -> dict[str, str]:
        return {VARIABLE: f"{self.read_descriptor}:{self._orphan_seconds:g}"}

    def close(self) -> None:
        """Idempotent. Children that are still running end."""
        for descriptor in (self.read_descriptor, self._write_descriptor):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self.read_descriptor = self._write_descriptor = -1


def end_with_parent() -> None:
    """In a child: end with the parent. Does nothing in a process that was started by hand."""
    given = re.fullmatch(r"(\d+):(\d+(?:\.\d+)?)", os.environ.pop(VARIABLE, ""))
    if given is None:
        return
    descriptor, orphan_seconds = int(given[1]), float(given[2])
    try:
        os.set_inheritable(descriptor, False)
    except OSError:
        return
    threading.Thread(target=_await_end, args=(descriptor, orphan_seconds), name="parent-pipe", daemon=True).start()


def _await_end(descriptor: int, orphan_seconds: float) -> None:
    os.read(descriptor, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(HURRY_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(orphan_seconds)
    os._exit(128 + signal.SIGTERM)
