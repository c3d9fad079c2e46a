"""HEAD, wherever there is GET (RFC 9110, section 9.3.2)."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

# Where a scope says that only the head of the answer is wanted.
HEAD_ONLY = "head_only"


class HeadAsGet:
    """Have the routes answer as they answer GET; the server, which knows better, sends no body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            state = {**scope.get("state", {}), HEAD_ONLY: True}
            scope = {**scope, "method": "GET", "state": state}
        await self._app(scope, receive, send)
