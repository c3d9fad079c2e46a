"""Whether viewers are written to directly, or by the server's ``send`` alone; found out when a gateway starts."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final, Self

from starlette.types import Receive, Send

from tailrace.gateway.asgi import starlette_internals, uvicorn_internals, websockets_internals
from tailrace.gateway.wire.formats import Message

logger = logging.getLogger(__name__)

# As asyncio's own default for a transport: what waits for a client that does not read.
HIGH_WATER_BYTES: Final = 64 * 1024
# What a message costs beside its payload.
_MESSAGE_BYTES: Final = 256
# Middlewares of an application around ours.
_MAX_LAYERS: Final = 32


async def why_stepped(*, wanted: bool = True) -> str | None:
    """None where the installed server is as it is taken for, and can be written to directly."""
    if not wanted:
        return "switched off by TAILRACE_DIRECT_WRITES"
    try:
        websockets_internals.check()
        await uvicorn_internals.check()
    except Exception as error:  # noqa: BLE001 - whatever is not as expected is reason enough
        reason = f"the installed uvicorn or websockets is not as expected ({type(error).__name__}: {error})"
        logger.warning("viewers are written to through send() alone, which costs more CPU time: %s", reason)
        return reason
    return None


def servers_own(send: Send) -> Send | None:
    """The server's own ``send`` below what an application has wrapped around it; None where it is not seen.

    Past layers that are known to change nothing once a response has begun, and where the server is uvicorn.
    """
    for _ in range(_MAX_LAYERS):
        if uvicorn_internals.is_own(send):
            return send
        inner = starlette_internals.inside(send)
        if inner is None:
            return None
        send = inner
    return None


class PumpedConnection:
    """A connection by the means that ASGI itself has: messages wait in a queue, and one task sends them in turn.

    Its ``send`` can be stepped, whatever the one below it waits for; to abort the connection is to have its
    application return, which it does when ``receive`` tells it that the connection has ended.
    """

    def __init__(self, receive: Receive, send: Send, disconnect: str) -> None:
        """``disconnect`` is the type of the message that tells the connection's end."""
        self._receive = receive
        self._send = send
        self._disconnect = disconnect
        self._ended = asyncio.Event()
        self._waiting: deque[Message] = deque()
        self._size = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._error: BaseException | None = None

    @property
    def transport(self) -> Self:
        return self

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Send what is written until left: the last is out by then, or nobody is there to take it."""
        pump = asyncio.create_task(self._pump())
        try:
            yield
        finally:
            pump.cancel()
            await asyncio.wait([pump])

    async def send(self, message: Message) -> None:
        """Completes at once unless much is waiting already."""
        if self._error is not None:
            raise ConnectionError("the connection is gone") from self._error
        self._waiting.append(message)
        self._size += _size_of(message)
        self._news.set()
        while self._size > HIGH_WATER_BYTES and self._error is None:
            self._room.clear()
            await self._room.wait()

    def get_write_buffer_size(self) -> int:
        return self._size

    def get_extra_info(self, name: str) -> None:
        """As of a transport that tells nothing of itself."""

    def abort(self) -> None:
        self._ended.set()
        # A server that closes well waits for a client that does not read, and does not stop before.
        transport = getattr(starlette_internals.server_of(self._receive), "transport", None)
        if (abort := getattr(transport, "abort", None)) is not None:
            abort()

    async def receive(self) -> Message:
        receiving = asyncio.ensure_future(self._receive())
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait([receiving, ended], return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                return receiving.result()
        finally:
            ended.cancel()
            receiving.cancel()
        message: dict[str, Any] = {"type": self._disconnect, "code": 1006}
        return message

    async def _pump(self) -> None:
        try:
            while True:
                while self._waiting:
                    message = self._waiting[0]
                    await self._send(message)
                    self._waiting.popleft()
                    self._size -= _size_of(message)
                    self._room.set()
                    if _is_last(message):
                        self._ended.set()
                        return
                self._news.clear()
                await self._news.wait()
        except Exception as error:  # noqa: BLE001 - servers differ in how they say that the client has gone
            logger.debug("write failed: %r", error)
            self._error = error
            self._room.set()
            self._ended.set()


def _size_of(message: Message) -> int:
    payload = message.get("body") or message.get("bytes") or message.get("text") or b""
    return len(payload) + _MESSAGE_BYTES


def _is_last(message: Message) -> bool:
    if message["type"] == "http.response.body":
        return not message.get("more_body", False)
    return bool(message["type"] == "websocket.close")
