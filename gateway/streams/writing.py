"""Which ``send`` a stream is written with, whatever application and server are around it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from starlette.types import Receive, Send

from tailrace.gateway.asgi.server_writes import PumpedConnection, servers_own
from tailrace.gateway.context import GatewayContext

Watching = Callable[[Receive], Awaitable[None]]

# Where the gateway's own application keeps the server's ``send``, and what goes on when a request has been answered.
SERVER_SEND: Final = "tailrace.server_send"
AFTERWARDS: Final = "tailrace.afterwards"


@asynccontextmanager
async def written_to(
    gateway: GatewayContext, receive: Receive, send: Send, disconnect: str
) -> AsyncGenerator[tuple[Receive, Send], None]:
    """Write past the layers of the application where that is known to be the same, else through all of them.

    ``disconnect`` is the type of the message that tells the connection's end.
    """
    own = None if gateway.stepped is not None else servers_own(send)
    if own is not None:
        yield receive, own
        return
    connection = PumpedConnection(receive, send, disconnect)
    async with connection.running():
        yield connection.receive, connection.send
