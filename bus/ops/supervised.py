"""A process that is one of several of a supervisor's: what it reports, and what it asks for.

They speak over a socket pair, a JSON object a line. A thread listens, so that a process answers also while its event
loop is blocked. Without a supervisor there is nobody to ask, and what is announced is printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Final

import orjson

from tailrace.bus.ops.service_manager import tell

logger = logging.getLogger(__name__)

VARIABLE: Final = "TAILRACE_SUPERVISOR"
ANSWER_SECONDS: Final = 5.0


@functools.cache
def supervisor() -> Supervisor | None:
    """The one of this process; None in a process that stands alone."""
    given = os.environ.pop(VARIABLE, "")
    if not (given.isascii() and given.isdecimal()):
        return None
    descriptor = int(given)
    # Programs that a worker runs must not hold the line open.
    line = socket.socket(fileno=descriptor)
    line.set_inheritable(False)
    return Supervisor(line)


def announce(what: str, *details: str) -> None:
    """Tell that this process is ready: the supervisor, or who reads standard output."""
    ours = supervisor()
    if ours is not None:
        ours.send(ready=what, details=details)
        return
    sys.stdout.write(f"{what} ({', '.join([*details, f'pid {os.getpid()}'])})\n")
    sys.stdout.flush()
    tell("READY=1")


class Supervisor:
    """The other end of the line, as seen by one of its processes."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._sending = threading.Lock()
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self._numbers = itertools.count()

    def send(self, **message: object) -> None:
        # A supervisor that is gone takes this process with it; there is nobody to tell.
        with self._sending, contextlib.suppress(OSError):
            self._line.sendall(orjson.dumps(message) + b"\n")

    @contextlib.contextmanager
    def shown(self, metrics: Callable[[], bytes]) -> Iterator[None]:
        """Answer with these metrics meanwhile, and once more at the end: what was counted outlives the process."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._listen, args=(metrics, loop), name="supervisor", daemon=True).start()
        try:
            yield
        finally:
            self._show(metrics)

    async def metrics_of_all(self) -> bytes:
        """Of all its processes. Raises TimeoutError."""
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self.send(ask=number)
            return await asyncio.wait_for(answer, ANSWER_SECONDS)
        finally:
            del self._asked[number]

    def _listen(self, metrics: Callable[[], bytes], loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(OSError), self._line.makefile("rb") as lines:
            for line in lines:
                message = orjson.loads(line)
                if "of_all" in message:
                    with contextlib.suppress(RuntimeError):  # the loop has ended
                        loop.call_soon_threadsafe(self._answered, message["ask"], message["of_all"].encode())
                else:
                    self._show(metrics)

    def _show(self, metrics: Callable[[], bytes]) -> None:
        try:
            self.send(metrics=metrics().decode())
        except Exception:
            # It must go on listening; the supervisor shows what it was told last, and says so.
            logger.exception("metrics cannot be collected")

    def _answered(self, number: int, text: bytes) -> None:
        asked = self._asked.get(number)
        if asked is not None and not asked.done():
            asked.set_result(text)
