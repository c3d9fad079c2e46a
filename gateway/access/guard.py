"""What stands around the application, as plain ASGI: the last resort, and the check of who is being addressed."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailrace.gateway.auth.refusals import ForbiddenError
from tailrace.gateway.http.loopback import is_loopback
from tailrace.gateway.http.problems import Problem

logger = logging.getLogger(__name__)

_GUARDED: Final = frozenset({"http", "websocket"})


class CrashGuard:
    """Turn an unexpected exception into a 500 with an id, under which the log has the traceback, once."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in _GUARDED:
            await self._app(scope, receive, send)
            return
        started = False

        async def note_start(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, note_start)
        except ClientDisconnect:
            pass
        except Exception:
            error_id = uuid.uuid4().hex[:12]
            logger.exception("error %s: %s %r", error_id, scope.get("method", scope["type"]), scope["path"])
            # Once begun, a response can only be broken off, which the server does when we just return.
            if not started:
                detail = "internal error of the gateway; its log has the details under this error id"
                problem = Problem(500, "internal_error", detail, more={"error_id": error_id})
                await problem.response()(scope, receive, send)


def check_local(scope: Scope) -> None:
    """Refuse whoever connects from another machine: for a gateway that asks for no credentials.

    It is judged by the connection. A Host header says what a client likes, and a socket of the application that our
    routes stand in may listen anywhere. Raises ForbiddenError.
    """
    if _is_remote(scope.get("client")):
        detail = "this gateway asks for no credentials, so it serves its own machine only; give it keys to serve others"
        raise ForbiddenError("local_clients_only", detail)


def _is_remote(client: Sequence[Any] | None) -> bool:
    """Not where there is no address: a UNIX socket is of this machine, and so is a test's client."""
    try:
        address = ip_address(client[0] if client else "")
    except ValueError:
        return False
    return not is_loopback(str(address))


class PeerGuard:
    """``check_local`` for all of an application, also where it has no route."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in _GUARDED:
            try:
                check_local(scope)
            except ForbiddenError as error:
                await error.problem.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


class HostGuard:
    """Refuse requests that were meant for another host.

    A page of a stranger whose DNS name points to 127.0.0.1 is, to a browser, of the same origin as we are
    (DNS rebinding), and would command a gateway that asks for no token. The Host header gives it away.
    """

    def __init__(self, app: ASGIApp, *, allowed: Sequence[str]) -> None:
        self._app = app
        self._allowed = frozenset(name.lower() for name in allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in _GUARDED:
            hosts = Headers(scope=scope).getlist("host")
            if len(hosts) != 1 and scope.get("http_version") == "1.1":
                detail = f"an HTTP/1.1 request has one Host header (RFC 9112, section 3.2); this one has {len(hosts)}"
                await Problem(400, "invalid_host", detail, "Host").response()(scope, receive, send)
                return
            host = hosts[0] if hosts else None
            if host is not None and not self._is_ours(host_name(host)):
                detail = (
                    f"this gateway does not serve the host {host[:80]!r}; add it to TAILRACE_ALLOWED_HOSTS if it should"
                )
                await Problem(421, "host_not_allowed", detail, "Host").response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_ours(self, name: str) -> bool:
        return is_loopback(name) or name in self._allowed or "*" in self._allowed


def host_name(header: str) -> str:
    """Take the port off a Host header, and the brackets off an IPv6 address."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()
