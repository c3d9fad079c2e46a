"""An id for each request: in the answer, in every line that is logged on its behalf, and in the access log."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailrace.bus.ops.logging import log_context

logger = logging.getLogger("tailrace.gateway.access")

HEADER: Final = "X-Request-Id"
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_EXECUTION: Final = re.compile(r"/v1/executions/([A-Za-z0-9][A-Za-z0-9_-]{0,127})(?:/|$)", re.ASCII)


class RequestIds:
    """Take the id of a proxy before us when it has one; ``access_log`` says one line a request, without its query.

    A stream's line is logged when its response has begun: it may last for days.
    """

    def __init__(self, app: ASGIApp, *, access_log: bool) -> None:
        self._app = app
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        given = Headers(scope=scope).get(HEADER)
        request_id = given if given is not None and _ID.fullmatch(given) else uuid.uuid4().hex[:16]
        known = {"request_id": request_id}
        if (execution := _EXECUTION.match(scope["path"])) is not None:
            known["execution_id"] = execution[1]

        async def with_id(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.accept"}:
                MutableHeaders(scope=message)[HEADER] = request_id
                if self._access_log:
                    status = message.get("status", 101)
                    took_ms = (time.perf_counter() - begun) * 1000
                    logger.info("%s %s %s %.1f ms", scope.get("method", "WS"), scope["path"], status, took_ms)
            await send(message)

        token = log_context.set(known)
        try:
            await self._app(scope, receive, with_id)
        finally:
            log_context.reset(token)
