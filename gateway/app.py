"""The application: routes, problems and guards around one bus."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from importlib import metadata
from typing import Any

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import Receive, Scope, Send

from tailrace.bus import Bus
from tailrace.gateway.access.guard import CrashGuard, HostGuard, PeerGuard
from tailrace.gateway.auth.openapi import with_security
from tailrace.gateway.context import GatewayContext
from tailrace.gateway.gateway import Gateway
from tailrace.gateway.http.cors import Cors, cors_options
from tailrace.gateway.http.head import HeadAsGet
from tailrace.gateway.http.problems import problem_of
from tailrace.gateway.http.request_id import RequestIds
from tailrace.gateway.routes.groups import GROUPS
from tailrace.gateway.settings import GatewaySettings
from tailrace.gateway.streams.deferred import PROBLEMS, answer
from tailrace.gateway.streams.writing import AFTERWARDS, SERVER_SEND

# What servers look up in a scope while they write the body.
_SERVED = frozenset({"http", "websocket"})
_KEPT_OF_SCOPE = frozenset({"type", "method", "http_version"})


class GatewayApp(FastAPI):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in _SERVED:
            gateway: GatewayContext = self.state.gateway
            if gateway.stepped is not None:
                await super().__call__(scope, receive, send)
                return
            # The server's own, before every layer wraps it once more: streams write through it without a task.
            state = scope.setdefault("state", {})
            state.update({SERVER_SEND: send, AFTERWARDS: None})
            await super().__call__(scope, receive, send)
            if (afterwards := state.get(AFTERWARDS)) is not None:
                _forget_request(scope)
                await afterwards(receive)
        else:
            await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            gateway: GatewayContext = self.state.gateway
            self.openapi_schema = with_security(super().openapi(), gateway.settings)
        return self.openapi_schema


def create_app(bus: Bus, settings: GatewaySettings) -> GatewayApp:
    """Make a gateway on an open bus, which stays its caller's to close."""
    gateway = Gateway(bus, routes=GROUPS, settings=settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        # The server drains by itself: it closes its port first.
        async with gateway.running(hear_signals=False):
            yield

    app = GatewayApp(
        title="Tailrace",
        version=metadata.version("tailrace"),
        summary="Executions' events, live and resumable",
        lifespan=lifespan,
        redirect_slashes=False,
        # Swagger's page would run scripts of a foreign host in this origin.
        docs_url=None,
        redoc_url=None,
    )
    app.state.gateway = gateway.context
    app.include_router(gateway.router)
    for kind in PROBLEMS:
        app.add_exception_handler(kind, _answer)
    app.add_middleware(HeadAsGet)
    # The last one added stands outermost.
    # A page that came by another name has no credential of ours: where one is asked for, names need not be known.
    anybody = settings.auth_required and not settings.allowed_hosts
    app.add_middleware(HostGuard, allowed=("*",) if anybody else settings.allowed_hosts)
    if not settings.auth_required:
        app.add_middleware(PeerGuard)
    # Around the guards, so that a page can read their refusals.
    app.add_middleware(Cors, **cors_options(settings.allowed_origins, auth_required=settings.auth_required))
    app.add_middleware(CrashGuard)
    app.add_middleware(RequestIds, access_log=settings.access_log)
    return app


def _forget_request(scope: Scope) -> None:
    """Let go of what answering took: a stream may last for days, and there may be thousands of them."""
    kept = {name: scope[name] for name in _KEPT_OF_SCOPE & scope.keys()}
    # The server has this very list, and would keep what a browser says with every request.
    if isinstance(headers := scope.get("headers"), list):
        headers.clear()
    # A dict that was emptied by one and one keeps its size.
    scope.clear()
    scope.update(kept)


async def _answer(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if problem.status != HTTPStatus.METHOD_NOT_ALLOWED:
        return answer(request, error)
    allowed = sorted(_methods_at(request))
    return replace(problem, headers={**problem.headers, "Allow": ", ".join(allowed)}).response()


def _methods_at(request: Request) -> set[str]:
    """Of all routes with that path: Starlette tells only those of the first."""
    methods: set[str] = set()
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    for found in iter_route_contexts(request.app.routes):
        if compile_path(found.path or "")[0].match(path):
            methods |= getattr(found.original_route, "methods", None) or set()
    return methods | ({"HEAD"} if "GET" in methods else set())
