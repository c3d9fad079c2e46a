"""Writing to a connection without waking a task for it.

Stepping the ASGI server's ``send`` once completes it there and then, unless the transport is paused; only then does a
task take it over and wait.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import socket
import struct
import termios
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import coroutine as generator_coroutine
from typing import Any, Final, cast

from tailrace.gateway.wire.formats import Message

logger = logging.getLogger(__name__)

_INT: Final = struct.Struct("i")

Send = Callable[[Message], Awaitable[None]]


class SteppedSend:
    """``on_drained`` is called each time a held write has gone through, ``on_lost`` once one never will.

    Trusts its caller not to write while a write is held.
    """

    __slots__ = ("_held", "_send", "_transport", "on_drained", "on_lost")

    def __init__(self, send: Send) -> None:
        self._send = send
        # uvicorn's own ``send`` is a method of the connection; ASGI itself knows no way to abort one.
        owner = getattr(send, "__self__", None)
        self._transport: asyncio.Transport | None = getattr(owner, "transport", None)
        self._held: asyncio.Task[None] | None = None
        self.on_drained: Callable[[], object] | None = None
        self.on_lost: Callable[[], None] | None = None

    def write(self, message: Message) -> bool:
        """Send one message; False when it is held back, or the connection is gone."""
        sending = cast("Coroutine[Any, None, None]", self._send(message))
        try:
            waited = sending.send(None)
        except StopIteration:
            return True
        except Exception as error:  # noqa: BLE001 - a connection that ends in mid-write is told to its own task
            logger.debug("write failed: %r", error)
            if self.on_lost is not None:
                # Not at once: the caller is in the middle of something.
                asyncio.get_running_loop().call_soon(self.on_lost)
            return False
        self._held = asyncio.get_running_loop().create_task(_carry_on(sending, waited))
        self._held.add_done_callback(self._released)
        return False

    def unsent_bytes(self) -> int | None:
        """What the other side has not acknowledged: in the transport, and in the kernel. None where it is not seen."""
        size = getattr(self._transport, "get_write_buffer_size", None)
        if self._transport is None or size is None:
            return None
        return int(size()) + _in_kernel(self._transport.get_extra_info("socket"))

    def forget(self) -> None:
        """Tell nobody any more: the connection is over, and who was told holds us."""
        self.on_drained = self.on_lost = None

    def abort(self) -> None:
        """Close the transport at once, with what it holds."""
        self.on_drained = None
        if self._transport is not None:
            self._transport.abort()
        if self._held is not None:
            self._held.cancel()

    def _released(self, task: asyncio.Task[None]) -> None:
        self._held = None
        if task.cancelled():
            return
        if task.exception() is not None:
            logger.debug("held write failed: %r", task.exception())
            if self.on_lost is not None:
                self.on_lost()
        elif self.on_drained is not None:
            self.on_drained()


def _in_kernel(connection: socket.socket | None) -> int:
    try:
        return _INT.unpack(fcntl.ioctl(connection, termios.TIOCOUTQ, _INT.pack(0)))[0] if connection else 0
    except (OSError, ValueError):
        # Not a socket of this kind, not a system that tells, or closed.
        return 0


@generator_coroutine
def _carry_on(sending: Coroutine[Any, Any, None], waited: Any) -> Generator[Any, Any, None]:
    """Wait on in a task for what a stepped coroutine was waiting for."""
    try:
        while True:
            try:
                got = yield waited
            except BaseException as error:  # noqa: BLE001 - a cancellation belongs to the coroutine
                waited = sending.throw(error)
            else:
                waited = sending.send(got)
    except StopIteration:
        return
