"""A TCP proxy that does to connections what networks do: cut them, swallow what is on its way, keep silent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

# What becomes of one chunk on its way; "swallow" keeps the connection open and says nothing more on it.
Fate = Literal["pass", "cut before", "cut after", "swallow"]


class LossyProxy:
    """``request`` and ``reply`` decide the fate of each chunk to and from the server."""

    def __init__(self, upstream_port: int) -> None:
        self.request: Callable[[bytes], Fate] = lambda _: "pass"
        self.reply: Callable[[bytes], Fate] = lambda _: "pass"
        self.cuts = 0
        self._upstream_port = upstream_port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut_all(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut_all()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, up_writer)
        self._writers.update(pair)
        pumps = [
            asyncio.create_task(self._pump(reader, up_writer, "request")),
            asyncio.create_task(self._pump(up_reader, writer, "reply")),
        ]
        self._tasks.update(pumps)
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for end in pair:
            end.transport.abort()
        await asyncio.wait(pumps)
        self._tasks.difference_update(pumps)
        self._writers.difference_update(pair)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Literal["request", "reply"]
    ) -> None:
        silent = False
        try:
            while chunk := await reader.read(65536):
                # Asked anew for each chunk: a test changes its mind while connections are open.
                fate = "swallow" if silent else (self.request if way == "request" else self.reply)(chunk)
                if fate == "swallow":
                    silent = True
                    continue
                if fate == "cut before":
                    self.cuts += 1
                    return
                writer.write(chunk)
                await writer.drain()
                if fate == "cut after":
                    self.cuts += 1
                    return
        except OSError:
            pass
