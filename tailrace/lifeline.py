"""Children that cannot outlive their parent, however it dies.

The parent holds the write end of a pipe and never writes; each child reads the other end. When the parent is gone,
and be it by SIGKILL, the kernel closes the pipe, the read returns, and the child ends itself: in order, then in a
hurry, then at once. Unlike prctl(PR_SET_PDEATHSIG) this works on macOS too and knows nothing of threads.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import Final

VARIABLE: Final = "TAILRACE_LIFELINE_FD"
# To gateways and workers a second SIGTERM says not to wait for anybody.
HURRY_SECONDS: Final = 0.5
GRACE_SECONDS: Final = 8.0


class Lifeline:
    def __init__(self) -> None:
        self.read_descriptor, self._write_descriptor = os.pipe()

    def environment(self) -> dict[str, str]:
        return {VARIABLE: str(self.read_descriptor)}

    def close(self) -> None:
        """Idempotent. Children that still run are told to end."""
        for descriptor in (self.read_descriptor, self._write_descriptor):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self.read_descriptor = self._write_descriptor = -1


def hold_on() -> None:
    """In a child: end with the parent. Does nothing in a process that was started by hand."""
    given = os.environ.pop(VARIABLE, "")
    if not given.isdecimal():
        return
    descriptor = int(given)
    try:
        os.set_inheritable(descriptor, False)
    except OSError:
        return
    threading.Thread(target=_await_end, args=(descriptor,), name="lifeline", daemon=True).start()


def _await_end(descriptor: int) -> None:
    os.read(descriptor, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(HURRY_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(128 + signal.SIGTERM)
