"""A client as somebody would write it, on python-websockets; checks every frame against the schema."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgpack
import orjson
import websockets
from websockets.typing import Subprotocol

from tailrace.bus import Bus
from tailrace.gateway.streams.socket_schema import SERVER_FRAME
from tests.patience import patient

SECONDS = 15.0
JSON = "tailrace.v1.json"
MSGPACK = "tailrace.v1.msgpack"

Said = dict[str, Any]


class Client:
    def __init__(self, connection: websockets.ClientConnection) -> None:
        self.connection = connection
        self.said: list[Said] = []
        self._packed = connection.subprotocol == MSGPACK
        self._read = 0
        self._ids = 0

    async def ask(self, op: str, **members: Any) -> Said:
        """Send an op and wait for its answer; what else comes is kept for ``until``."""
        self._ids += 1
        number = self._ids
        await self.send({"op": op, "id": number, **members})
        return await self.until(lambda said: said.get("id") == number and said["op"] not in {"event", "cursor"})

    async def send(self, given: Any) -> None:
        await self.connection.send(msgpack.packb(given) if self._packed else orjson.dumps(given).decode())

    async def until(self, wanted: Callable[[Said], bool] | str) -> Said:
        """The next message that is wanted, after those that were asked for before."""
        is_wanted = (lambda said: said["op"] == wanted) if isinstance(wanted, str) else wanted
        async with asyncio.timeout(patient(SECONDS)):
            while True:
                while self._read < len(self.said):
                    self._read += 1
                    if is_wanted(self.said[self._read - 1]):
                        return self.said[self._read - 1]
                await self._receive()

    async def closed(self) -> int:
        """Read to the end; the close code."""
        async with asyncio.timeout(patient(SECONDS)):
            try:
                while True:
                    await self._receive()
            except websockets.ConnectionClosed:
                code = self.connection.close_code
                assert code is not None
                return code

    def events(self, execution_id: str) -> list[Said]:
        return [said for said in self.said if said["op"] == "event" and said["execution"] == execution_id]

    def counts(self, execution_id: str) -> list[int]:
        """The numbers that ``publish`` gave, of this execution's events."""
        return [said["data"]["n"] for said in self.events(execution_id) if said["type"] == "custom.count"]

    async def _receive(self) -> None:
        frame = await self.connection.recv()
        assert isinstance(frame, bytes) is self._packed
        messages = msgpack.unpackb(frame) if isinstance(frame, bytes) else orjson.loads(frame)
        SERVER_FRAME.validate_python(messages)
        self.said += messages


@asynccontextmanager
async def connected(url: str, subprotocol: str | None = JSON, **options: Any) -> AsyncGenerator[Client, None]:
    offered = None if subprotocol is None else [Subprotocol(subprotocol)]
    async with websockets.connect(url, subprotocols=offered, **options) as connection:
        yield Client(connection)


async def publish(bus: Bus, execution_id: str, count: int, *, first: int = 0, end: bool = False, pad: int = 0) -> None:
    async with aclosing(bus.publisher(execution_id)) as publisher:
        for number in range(first, first + count):
            await publisher.emit("custom.count", {"n": number, "pad": "x" * pad}, step=f"step{number % 2}")
        if end:
            await publisher.emit("execution.completed", {})
