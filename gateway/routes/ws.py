"""WebSocket: many executions over one socket, or one that the URL names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

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
from tailrace.gateway.streams.waiting import check_wait
from tailrace.gateway.streams.writing import AFTERWARDS, SERVER_SEND, Watching, written_to
from tailrace.gateway.wire.socket_formats import SUBPROTOCOLS, WS_JSON

Enter = Callable[[Scope], GatewayContext]


class SocketEndpoint:
    """Plain ASGI: every layer more would be paid for by each idle socket.

    Whom an execution belongs to is asked when it is subscribed to, as for all executions of a socket.
    """

    def __init__(self, requirement: Requires, enter: Enter) -> None:
        """``enter`` finds the gateway of a request, as for the other routes."""
        self.requirement = requirement
        self._enter = enter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = HTTPConnection(scope)
        subprotocol = next((name for name in scope["subprotocols"] if name in SUBPROTOCOLS), None)
        only = scope["path_params"].get("execution_id")
        wanted = None if only is None else _wanted(request, only)
        try:
            gateway = self._enter(scope)
            _check(gateway, request, subprotocol)
            access = await self.requirement.identify(request, gateway)
            if not isinstance(wanted, InvalidInputError):
                await access.enter()
        except (ProblemError, BusError) as error:
            await problem_of(error).response()(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})
        rendering = WS_JSON if subprotocol is None else SUBPROTOCOLS[subprotocol]

        def begin(send: Send) -> Watching:
            connection = SocketConnection(FramedSend(send), gateway.hub, rendering, only=only)
            return partial(Socket(gateway, connection, access).serve, only=wanted)

        state = scope.get("state", {})
        if SERVER_SEND in state:
            # The handshake is over; what waits from here on need not hold it, nor the layers around it.
            forget_handshake(state[SERVER_SEND])
            state[AFTERWARDS] = begin(state[SERVER_SEND])
        else:
            async with written_to(gateway, receive, send, "websocket.disconnect") as (heard, written):
                await begin(written)(heard)


def _check(gateway: GatewayContext, request: HTTPConnection, subprotocol: str | None) -> None:
    """Raises ProblemError."""
    if gateway.draining:
        raise ProblemError(unavailable("shutting_down", "this gateway is shutting down; another one can answer"))
    origin = request.headers.get("origin")
    # A credential is proof enough that the page may; of which pages a cookie is taken is looked at with it.
    if origin is not None and not gateway.auth.required and not is_allowed(origin, gateway.settings.allowed_hosts):
        gateway.hub.count("ws_refused_origins")
        detail = f"pages of {origin[:80]!r} may not open WebSockets here; add its host to TAILRACE_ALLOWED_HOSTS"
        raise ProblemError(Problem(403, "origin_not_allowed", detail, "Origin"))
    if request.scope["subprotocols"] and subprotocol is None:
        detail = "none of the offered subprotocols is supported"
        available = {"available": list(SUBPROTOCOLS)}
        raise ProblemError(Problem(400, "unknown_subprotocol", detail, "Sec-WebSocket-Protocol", available))


def _wanted(request: HTTPConnection, execution_id: str) -> Wanted | InvalidInputError:
    """What the URL asks for, or why it cannot be had: a browser shows pages what a socket says, and no response."""
    try:
        checked = check_execution_id(execution_id, field="execution")
        parameters = StreamParameters.of(request)
        wait = check_wait(request.query_params.get("wait_for_start"))
        compress = _flag("compress", request.query_params.get("compress"))
        return Wanted(
            checked, parameters.cursor(), parameters.filter(), parameters.coalesce_ms(), wait, compress=compress
        )
    except InvalidInputError as error:
        return error


def _flag(name: str, given: str | None) -> bool:
    """Raises InvalidInputError."""
    if given not in {None, "true", "false"}:
        raise InvalidInputError(name, f"{str(given)[:32]!r} is neither 'true' nor 'false'")
    return given == "true"


def routes_of(enter: Enter) -> list[WebSocketRoute]:
    """The sockets of one gateway."""
    return [
        WebSocketRoute("/ws", SocketEndpoint(Requires(), enter)),
        WebSocketRoute("/executions/{execution_id}/ws", SocketEndpoint(Requires("read"), enter)),
    ]
