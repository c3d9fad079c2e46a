"""Children that cannot outlive their parent, however it dies.

The parent holds the write end of a pipe and never writes; each child reads the other end. When the parent is gone,
and be it by SIGKILL, the kernel closes the pipe, the read returns, and the child ends itself: in order, then in a
hurry, then at once. Unlike prctl(PR_SET_PDEATHSIG) this works on macOS too and knows nothing of threads.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from typing import Final

VARIABLE: Final = "TAILRACE_LIFELINE"
# To gateways and workers a second SIGTERM says not to wait for anybody.
HURRY_SECONDS: Final = 0.5


class Lifeline:
    """``orphan_seconds`` is what a child has to end in order after its parent died."""

    def __init__(self, orphan_seconds: float) -> None:
        self.read_descriptor, self._write_descriptor = os.pipe()
        self._orphan_seconds = orphan_seconds

    def environment(self) -> dict[str, str]:
        return {VARIABLE: f"{self.read_descriptor}:{self._orphan_seconds:g}"}

    def close(self) -> None:
        """Idempotent. Children that still run are told to end."""
        for descriptor in (self.read_descriptor, self._write_descriptor):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self.read_descriptor = self._write_descriptor = -1


def hold_on() -> None:
    """In a child: end with the parent. Does nothing in a process that was started by hand."""
    given = re.fullmatch(r"(\d+):(\d+(?:\.\d+)?)", os.environ.pop(VARIABLE, ""))
    if given is None:
        return
    descriptor, orphan_seconds = int(given[1]), float(given[2])
    try:
        os.set_inheritable(descriptor, False)
    except OSError:
        return
    threading.Thread(target=_await_end, args=(descriptor, orphan_seconds), name="lifeline", daemon=True).start()


def _await_end(descriptor: int, orphan_seconds: float) -> None:
    os.read(descriptor, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(HURRY_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(orphan_seconds)
    os._exit(128 + signal.SIGTERM)
