"""A server that answers redis-py's handshake by itself and says of all else only what the test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import hiredis

from tests.patience import patient

SECONDS = 10.0
_HANDSHAKE = {b"HELLO": b"%1\r\n$5\r\nproto\r\n:3\r\n", b"CLIENT": b"+OK\r\n"}


class Scripted:
    def __init__(self, *, mute: bool) -> None:
        self._mute = mute
        self._greeted = False
        self._commands: asyncio.Queue[list[bytes]] = asyncio.Queue()
        self._writer: asyncio.StreamWriter | None = None
        self.url = ""

    async def asked(self) -> list[bytes]:
        """The next command that is none of the handshake's."""
        async with asyncio.timeout(patient(SECONDS)):
            return await self._commands.get()

    def say(self, data: bytes) -> None:
        assert self._writer is not None
        self._writer.write(data)

    def hang_up(self) -> None:
        assert self._writer is not None
        self._writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._greeted = False
        commands = hiredis.Reader()
        try:
            while data := await reader.read(65536):
                commands.feed(data)
                while (command := commands.gets()) is not False:
                    self._take(command)
        except ConnectionError:
            return
        finally:
            writer.close()

    def _take(self, command: list[bytes]) -> None:
        answer = _HANDSHAKE.get(command[0].upper())
        if self._mute:
            return
        if command[0] == b"PING" and not self._greeted:
            # The last of the handshake: whether the server has loaded.
            self._greeted, answer = True, b"+PONG\r\n"
        if answer is None:
            self._commands.put_nowait(command)
        else:
            self.say(answer)


@asynccontextmanager
async def scripted(*, mute: bool = False) -> AsyncGenerator[Scripted, None]:
    """Listen on a free port of loopback; ``mute`` answers not even the handshake."""
    server = Scripted(mute=mute)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = "redis://127.0.0.1:{1}".format(*listener.sockets[0].getsockname())
    try:
        yield server
    finally:
        listener.close()
        if server._writer is not None:
            server._writer.transport.abort()
