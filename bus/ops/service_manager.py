"""What a service manager that speaks sd_notify(3), such as systemd, is told of this process, and what it hands over."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final

logger = logging.getLogger(__name__)

_FIRST_DESCRIPTOR: Final = 3


def tell(state: str) -> None:
    """``READY=1``, ``STOPPING=1`` or ``WATCHDOG=1``; nothing where no service manager asks for it."""
    line = _line()
    if line is not None:
        # One that is gone needs not be told.
        with suppress(OSError):
            line.send(state.encode())


@asynccontextmanager
async def watched() -> AsyncGenerator[None, None]:
    """Tell meanwhile that the event loop runs, twice as often as asked for."""
    microseconds = os.environ.pop("WATCHDOG_USEC", "")
    if not (microseconds.isascii() and microseconds.isdecimal()) or _line() is None:
        yield
        return
    task = asyncio.create_task(_tell_often(int(microseconds) / 2e6), name="watchdog")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def handed_over() -> socket.socket | None:
    """The listening socket of a ``.socket`` unit (sd_listen_fds(3)); there can be one."""
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()) or os.environ.pop("LISTEN_FDS", "") in {"", "0"}:
        return None
    listener = socket.socket(fileno=_FIRST_DESCRIPTOR)
    listener.set_inheritable(False)
    return listener


@functools.cache
def _line() -> socket.socket | None:
    # Programs that a worker runs are not the ones to speak for it.
    address = os.environ.pop("NOTIFY_SOCKET", "")
    if not address:
        return None
    line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        # "@" stands for the abstract namespace.
        line.connect("\0" + address[1:] if address.startswith("@") else address)
    except OSError as error:
        logger.warning("the service manager is not told of this process: NOTIFY_SOCKET %s: %s", address, error)
        line.close()
        return None
    return line


async def _tell_often(seconds: float) -> None:
    while True:
        tell("WATCHDOG=1")
        await asyncio.sleep(seconds)
