"""A client that speaks frames itself, so that it can be rude, or slow."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import orjson

from bench.load.frames import CLOSE, TEXT, masked, upgrade
from tests.patience import patient

SECONDS = 30.0


class Raw:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.said: list[dict[str, Any]] = []

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def send(self, members: Any) -> None:
        await self.write(masked(TEXT, orjson.dumps(members)))

    async def frame(self) -> tuple[int, bytes]:
        """The next frame's opcode and payload. Raises IncompleteReadError at the end."""
        async with asyncio.timeout(patient(SECONDS)):
            first, second = await self.reader.readexactly(2)
            length = second & 0x7F
            if length > 125:
                length = int.from_bytes(await self.reader.readexactly(2 if length == 126 else 8), "big")
            return first & 0x0F, await self.reader.readexactly(length)

    async def until(self, op: str) -> dict[str, Any]:
        while True:
            opcode, payload = await self.frame()
            for message in self._note(opcode, payload):
                if message["op"] == op:
                    return message

    async def close_code(self) -> int:
        """Read to the close frame. Raises IncompleteReadError when there is none."""
        while True:
            opcode, payload = await self.frame()
            self._note(opcode, payload)
            if opcode == CLOSE:
                return int.from_bytes(payload[:2], "big")

    def _note(self, opcode: int, payload: bytes) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = orjson.loads(payload) if opcode == TEXT else []
        self.said += messages
        return messages


@asynccontextmanager
async def raw(url: str, *, path: str = "/v1/ws", subprotocol: str = "", receive_bytes: int = 0) -> AsyncGenerator[Raw]:
    address = urlsplit(url)
    assert address.port is not None
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", address.port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=4096)
    try:
        writer.write(upgrade("127.0.0.1", path, subprotocol, {}))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), patient(SECONDS))
        assert b" 101 " in head.split(b"\r\n")[0], head
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()
