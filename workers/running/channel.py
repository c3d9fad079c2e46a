"""Messages between a worker and the process of a step, over a socket that only the two have.

A message is a MessagePack array behind its length, four bytes in network order. The process asks and the worker
answers: ``[number, name, *arguments]`` and ``[number, ok, value]``. Its last call is ``done`` or ``failed``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Any, Final, Self

import msgpack

_LENGTH: Final = struct.Struct("!I")
# An output of the largest size, with what stands around it.
MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024


class MessageTooLargeError(Exception):
    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"a message of {size_bytes} bytes, the limit is {MAX_MESSAGE_BYTES}")


class Channel:
    def __init__(self, connected: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._socket = connected
        self._reader = reader
        self._writer = writer
        self._turn = asyncio.Lock()

    @classmethod
    async def over(cls, connected: socket.socket) -> Self:
        """Owns the socket from here on."""
        connected.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        return cls(connected, *await asyncio.open_connection(sock=connected))

    async def send(self, message: Any) -> None:
        """Raises MessageTooLargeError, and TypeError, ValueError or OverflowError for what msgpack cannot hold."""
        packed = msgpack.packb(message)
        if len(packed) > MAX_MESSAGE_BYTES:
            raise MessageTooLargeError(len(packed))
        await self.send_bytes(packed)

    async def send_bytes(self, message: bytes) -> None:
        """Raises OSError when the other side is gone."""
        async with self._turn:
            self._writer.write(_LENGTH.pack(len(message)) + message)
            await self._writer.drain()

    async def receive(self) -> Any:
        """None when the other side is gone, or writes what is no message. Raises MessageTooLargeError."""
        message = await self.receive_bytes(MAX_MESSAGE_BYTES)
        try:
            return None if message is None else msgpack.unpackb(message, strict_map_key=False)
        except (ValueError, RecursionError):
            return None

    async def receive_bytes(self, most_bytes: int | None = None) -> bytes | None:
        """One message as it came. None as for ``receive``."""
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            if most_bytes is not None and length > most_bytes:
                raise MessageTooLargeError(length)
            return await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, OSError):
            return None

    def end(self) -> None:
        """The other side's process is gone: end the channel even if others inherited the socket from it.

        What it sent before is still received.
        """
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._writer.close()
