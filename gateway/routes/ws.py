"""WebSocket: many executions over one socket, or one that the URL names."""

from __future__ import annotations

from functools import partial
from typing import cast

from fastapi import APIRouter
from starlette.requests import HTTPConnection
from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send

from tailrace.bus import BusError, InvalidInputError
from tailrace.bus.model.event import check_execution_id
from tailrace.gateway.access.access import Requires
from tailrace.gateway.access.origin import is_allowed
from tailrace.gateway.asgi.uvicorn_internals import FramedSend, forget_handshake
from tailrace.gateway.context import GatewayContext
from tailrace.gateway.http.problems import Problem, ProblemError, problem_of, unavailable
from tailrace.gateway.streams.parameters import StreamParameters
from tailrace.gateway.streams.socket import Socket, Wanted
from tailrace.gateway.streams.socket_connection import SocketConnection
from tailrace.gateway.wire.socket_formats import SUBPROTOCOLS, WS_JSON

router = APIRouter()


class SocketEndpoint:
    """Plain ASGI: every layer more would be paid for by each idle socket.

    Whom an execution belongs to is asked when it is subscribed to, as for all executions of a socket.
    """

    def __init__(self, requirement: Requires) -> None:
        self.requirement = requirement

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway = cast("GatewayContext", scope["app"].state.gateway)
        request = HTTPConnection(scope)
        subprotocol = next((name for name in scope["subprotocols"] if name in SUBPROTOCOLS), None)
        problem = _refusal(gateway, request, subprotocol)
        if problem is not None:
            await problem.response()(scope, receive, send)
            return
        only = scope["path_params"].get("execution_id")
        wanted = None if only is None else _wanted(request, only)
        try:
            access = await self.requirement.identify(request, gateway)
            if not isinstance(wanted, InvalidInputError):
                await access.enter()
        except (ProblemError, BusError) as error:
            await problem_of(error).response()(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})
        rendering = WS_JSON if subprotocol is None else SUBPROTOCOLS[subprotocol]
        state = scope["state"]
        server_send = state.get("server_send", send)
        serving = partial(
            Socket(gateway, SocketConnection(FramedSend(server_send), gateway.hub, rendering, only=only), access).serve,
            only=wanted,
        )
        if "afterwards" in state:
            # The handshake is over; what waits from here on need not hold it, nor the layers around it.
            forget_handshake(server_send)
            state["afterwards"] = serving
        else:
            await serving(receive)


def _refusal(gateway: GatewayContext, request: HTTPConnection, subprotocol: str | None) -> Problem | None:
    if gateway.draining:
        return unavailable("shutting_down", "this gateway is shutting down; another one can answer")
    origin = request.headers.get("origin")
    # A credential is proof enough that the page may; of which pages a cookie is taken is looked at with it.
    if origin is not None and not gateway.auth.required and not is_allowed(origin, gateway.settings.allowed_hosts):
        gateway.hub.count("ws_refused_origins")
        detail = f"pages of {origin[:80]!r} may not open WebSockets here; add its host to TAILRACE_ALLOWED_HOSTS"
        return Problem(403, "origin_not_allowed", detail, "Origin")
    if request.scope["subprotocols"] and subprotocol is None:
        detail = "none of the offered subprotocols is supported"
        return Problem(400, "unknown_subprotocol", detail, "Sec-WebSocket-Protocol", {"available": list(SUBPROTOCOLS)})
    return None


def _wanted(request: HTTPConnection, execution_id: str) -> Wanted | InvalidInputError:
    """What the URL asks for, or why it cannot be had: a browser shows pages what a socket says, and no response."""
    try:
        checked = check_execution_id(execution_id, field="execution")
        parameters = StreamParameters.of(request)
        return Wanted(checked, parameters.cursor(), parameters.filter(), parameters.coalesce_ms())
    except InvalidInputError as error:
        return error


router.routes.extend(
    [
        WebSocketRoute("/ws", SocketEndpoint(Requires())),
        WebSocketRoute("/executions/{execution_id}/ws", SocketEndpoint(Requires("read"))),
    ]
)
