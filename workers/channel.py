"""Messages between a worker and the process of a step, over a socket that only the two have.

A message is a MessagePack array behind its length, four bytes in network order. The process asks and the worker
answers: ``[number, name, *arguments]`` and ``[number, ok, value]``.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, Final, Self

import msgpack

_LENGTH: Final = struct.Struct("!I")
# An output of the largest size, with what stands around it.
MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024


class Channel:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._turn = asyncio.Lock()

    @classmethod
    async def over(cls, connected: socket.socket) -> Self:
        """Owns the socket from here on."""
        connected.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        return cls(*await asyncio.open_connection(sock=connected))

    async def send(self, message: Any) -> None:
        await self.send_bytes(msgpack.packb(message))

    async def send_bytes(self, message: bytes) -> None:
        """Raises OSError when the other side is gone."""
        async with self._turn:
            self._writer.write(_LENGTH.pack(len(message)) + message)
            await self._writer.drain()

    async def receive(self) -> Any:
        """None when the other side is gone, or writes what is no message."""
        message = await self.receive_bytes(MAX_MESSAGE_BYTES)
        try:
            return None if message is None else msgpack.unpackb(message, strict_map_key=False)
        except (ValueError, RecursionError):
            return None

    async def receive_bytes(self, most_bytes: int | None = None) -> bytes | None:
        """One message as it came. None as for ``receive``."""
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            return await self._reader.readexactly(length) if most_bytes is None or length <= most_bytes else None
        except (asyncio.IncompleteReadError, OSError):
            return None

    def close(self) -> None:
        self._writer.close()
