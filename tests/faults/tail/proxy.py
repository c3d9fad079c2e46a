"""A network between us and Redis that is slow, or goes dead without a word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from tests.servers import RunningServer


class Proxy:
    """Passes bytes on ``delay_seconds`` after they came (requests only, so that it is what a round trip takes)."""

    def __init__(self, server: RunningServer, delay_seconds: float) -> None:
        self._server = server
        self._delay_seconds = delay_seconds
        self._paths: list[_Path] = []
        self._serving: set[asyncio.Task[None]] = set()
        self.url = ""

    def swallow(self) -> int:
        """From now on, take all that is sent on the connections there are, and deliver nothing. Gives their number.

        Both sides still believe in them, as behind a firewall that forgot them. New ones pass.
        """
        for path in self._paths:
            path.dead = True
        return len(self._paths)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        path = _Path()
        there, thither = await self._connect()
        self._paths.append(path)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(path.carry(reader, thither, self._delay_seconds))
                group.create_task(path.carry(there, writer, 0.0))
        finally:
            self._serving.discard(task)
            self._paths.remove(path)
            writer.close()
            thither.close()

    async def aclose(self) -> None:
        tasks = list(self._serving)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._server.port is not None:
            return await asyncio.open_connection("127.0.0.1", self._server.port)
        return await asyncio.open_unix_connection(self._server.url.removeprefix("unix://"))


class _Path:
    """One connection, both ways."""

    def __init__(self) -> None:
        self.dead = False

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_seconds: float) -> None:
        now = asyncio.get_running_loop().time
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivering = asyncio.create_task(self._deliver(under_way, writer))
        try:
            with suppress(ConnectionError):
                while data := await reader.read(65536):
                    under_way.put_nowait((now() + delay_seconds, data))
            under_way.put_nowait((now() + delay_seconds, b""))
            await delivering
        finally:
            delivering.cancel()

    async def _deliver(self, under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(due - asyncio.get_running_loop().time())
                if not data:
                    break
                if not self.dead:
                    writer.write(data)
                    await writer.drain()
        if not self.dead:
            writer.close()


@asynccontextmanager
async def proxy(server: RunningServer, *, delay_seconds: float = 0.0) -> AsyncGenerator[Proxy, None]:
    """Listen on a free port of loopback."""
    made = Proxy(server, delay_seconds)
    listener = await asyncio.start_server(made.accept, "127.0.0.1", 0)
    made.url = "redis://127.0.0.1:{1}".format(*listener.sockets[0].getsockname())
    try:
        yield made
    finally:
        listener.close()
        await made.aclose()
