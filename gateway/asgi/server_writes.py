"""Whether viewers are written to directly, or by the server's ``send`` alone; found out when a gateway starts."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from starlette.types import Receive, Send

from tailrace.gateway.asgi import uvicorn_internals, websockets_internals
from tailrace.gateway.wire.formats import Message

logger = logging.getLogger(__name__)


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


class PlainConnection:
    """A connection by the means that ASGI itself has: to abort it is to have its application return."""

    def __init__(self, receive: Receive, send: Send, disconnect: str) -> None:
        """``disconnect`` is the type of the message that tells its end."""
        self.transport = self
        self._receive = receive
        self._send = send
        self._disconnect = disconnect
        self._aborted = asyncio.Event()

    async def send(self, message: Message) -> None:
        await self._send(message)

    def abort(self) -> None:
        self._aborted.set()

    async def receive(self) -> Message:
        receiving = asyncio.ensure_future(self._receive())
        aborted = asyncio.create_task(self._aborted.wait())
        try:
            await asyncio.wait([receiving, aborted], return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                return receiving.result()
        finally:
            aborted.cancel()
            receiving.cancel()
        ended: dict[str, Any] = {"type": self._disconnect, "code": 1006}
        return ended
