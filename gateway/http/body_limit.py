"""Middleware that refuses large bodies, for the routes of an application's own."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailrace.gateway.http.parsing import declared_bytes, too_large

MAX_BYTES: Final = 1024 * 1024
# What is too large is still read, and thrown away, so far and so long.
DROP_BYTES: Final = 16 * 1024 * 1024
DROP_SECONDS: Final = 10.0


class BodyLimit:
    """Refuse requests whose body has more than `max_bytes` with 413, and keep nothing of them.

        app.add_middleware(BodyLimit, max_bytes=1_000_000)

    A body that declares its length is refused with a problem (`body_too_large`) before the application sees the
    request; one that does not (`Transfer-Encoding: chunked`) by an HTTPException where the application reads it. Up to
    16 MiB more are read and dropped: a client that is cut off while it sends does not read the answer. Streams of
    the gateway do not become slower behind it.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int = MAX_BYTES) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        declared = declared_bytes(headers)
        if declared > self._max_bytes:
            # With "Expect" the client asks before it sends (RFC 9110, section 10.1.1).
            if "expect" not in headers:
                await self._drop(receive, 0)
            await too_large(declared, self._max_bytes).problem.response()(scope, receive, send)
        else:
            await self._app(scope, receive if declared else self._counted(receive), send)

    def _counted(self, receive: Receive) -> Receive:
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._max_bytes:
                if message.get("more_body"):
                    await self._drop(receive, size)
                problem = too_large(size, self._max_bytes).problem
                raise HTTPException(problem.status, problem.detail, problem.headers)
            return message

        return counted

    async def _drop(self, receive: Receive, size: int) -> None:
        try:
            async with asyncio.timeout(DROP_SECONDS):
                while size <= self._max_bytes + DROP_BYTES:
                    message = await receive()
                    size += len(message.get("body", b""))
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            # The answer closes the connection.
            pass
