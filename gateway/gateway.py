"""The gateway as a part of an application: its routes, its lifespan, and the bus behind them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property, lru_cache
from typing import Any

from fastapi import APIRouter
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Scope
from starlette.websockets import WebSocket

from tailrace.bus import Bus, Cursor, Handle, InvalidInputError, open_bus
from tailrace.bus.model.event import check_execution_id
from tailrace.gateway.access.guard import check_local
from tailrace.gateway.access.own_route import Allow, OwnRouteAccess, Until
from tailrace.gateway.asgi.server_writes import why_stepped
from tailrace.gateway.asgi.stopping import hearing_stops
from tailrace.gateway.auth.auth import Authenticate
from tailrace.gateway.auth.principal import Authorize, Principal
from tailrace.gateway.context import SCOPE_KEY, GatewayContext
from tailrace.gateway.errors import GatewayNotRunningError
from tailrace.gateway.http.body_limit import BodyLimit
from tailrace.gateway.http.links import note_base
from tailrace.gateway.hub import Hub, HubLimits
from tailrace.gateway.metrics import metrics_of
from tailrace.gateway.routes.groups import DEFAULT_GROUPS, router_of
from tailrace.gateway.settings import GatewaySettings, read_settings
from tailrace.gateway.streams.activity import activity_filter, open_activity
from tailrace.gateway.streams.deferred import PROBLEMS, answer
from tailrace.gateway.streams.own_routes import (
    GRACE_SECONDS,
    Merge,
    OnDisconnect,
    OpenedLater,
    Wishes,
    open_own,
    own_filter,
    own_parameters,
    resumed_of,
)
from tailrace.gateway.streams.paging import page_query, read_page
from tailrace.gateway.streams.parameters import StreamParameters
from tailrace.gateway.streams.session import Session
from tailrace.gateway.streams.several import open_several
from tailrace.gateway.wire.own import OwnSocket
from tailrace.gateway.wire.wire import Frame, NdjsonWire, ShownEntry, SocketWire, SseWire, Wire, frame

__all__ = [
    "BodyLimit",
    "Frame",
    "Gateway",
    "GatewayNotRunningError",
    "GatewaySettings",
    "NdjsonWire",
    "Principal",
    "Session",
    "ShownEntry",
    "SocketWire",
    "SseWire",
    "Wire",
    "frame",
]

logger = logging.getLogger(__name__)


class Gateway:
    """Serves executions' events inside an application of one's own.

        gateway = Gateway("redis://localhost:6379")
        app = FastAPI(lifespan=gateway.lifespan)
        app.include_router(gateway.router, prefix="/events")

    An application with a lifespan of its own enters ``async with gateway.running():`` in there.
    """

    def __init__(
        self,
        redis: str | Bus | None = None,
        *,
        authenticate: Authenticate | None = None,
        authorize: Authorize | None = None,
        routes: Collection[str] = DEFAULT_GROUPS,
        settings: GatewaySettings | None = None,
    ) -> None:
        """``redis`` is a URL, as for ``open_bus``, or an open bus, which stays its owner's to close.

        Without one, ``TAILRACE_REDIS_URL`` says where Redis is.

        ``authenticate``, sync or async, is given each request or WebSocket to our routes, and gives the Principal who
        asks, or None; then a credential of the settings is asked for, where there are any, else it is 401. An
        HTTPException is answered as it is. ``authorize(principal, state, action)`` is asked about each execution that
        somebody wants to ``read``, ``publish`` to, ``control`` or ``admin``; where it says False, there is no such
        execution. It is asked often and must not wait.

        ``routes`` are groups of routes: ``executions``, ``control``, ``events``, ``publish``, ``submit_stream``,
        ``stream``, ``activity``, ``clients``, ``sockets``, ``security``, ``health``, ``metrics``, ``web`` (the
        JavaScript client); ``index`` only where it is named. ``settings`` are those of the environment where none are
        given; the application's server decides about address and port. Raises InvalidInputError that names what cannot
        be used.
        """
        self.settings = read_settings() if settings is None else settings
        self._redis = redis
        self._authenticate = authenticate
        self._authorize = authorize
        self._routes = routes
        self._users = 0
        # What the routes of a given bus need is there before the loop runs.
        self._context = self._new_context(redis) if isinstance(redis, Bus) else None

    @property
    def bus(self) -> Bus:
        """The bus. Raises GatewayNotRunningError before the application has started, where a URL was given."""
        return self.context.bus

    @property
    def context(self) -> GatewayContext:
        """What the routes share. Raises GatewayNotRunningError."""
        if self._context is None:
            raise GatewayNotRunningError
        return self._context

    @cached_property
    def router(self) -> APIRouter:
        """The routes, for ``app.include_router``; links in answers carry the prefix, mount and root path."""
        return router_of(self._enter, self._routes)

    def stream(
        self,
        request: Request,
        execution: str,
        *,
        wire: Wire | None = None,
        after: Cursor | str | None = None,
        types: Sequence[str] | None = None,
        step: str | None = None,
        mode: str | None = None,
        coalesce_ms: int = 0,
        merge: Merge | None = None,
        allow: Allow | None = None,
        until: Until | None = None,
        wait_for_start: float = 0.0,
        on_disconnect: OnDisconnect = "continue",
        grace_seconds: float = GRACE_SECONDS,
    ) -> Response:
        """Answer a route of one's own with an execution's events, from where this client is, until the ending.

            @app.get("/answers/{id}")
            async def watch(id: str, request: Request, user: User = Depends(current_user)):
                return gateway.stream(request, id, wire=AnswerWire(), allow=lambda state: user.owns(state))

        Without a ``wire`` it is the envelope of our own routes, as SSE or NDJSON, whichever the request accepts. A
        client that names no place (``Last-Event-ID``, ``lastEventId``, ``from``) begins ``after`` a cursor, with
        ``"tail"`` at what comes from now on, else at the first event. ``types`` (exact, or as ``step.*``), ``step`` and
        ``mode`` leave out events, never the ending; ``coalesce_ms`` (0 to 1000) collects them for so long, and with
        ``merge="tokens"`` adjacent tokens of a step that are sent together are one, with the id of the last.

        Who may watch, the route has decided; ``allow`` sees the execution's state, and False is answered as if there
        were none. ``until`` ends the stream as an expired token does: a datetime, Unix seconds, or a callable, sync or
        async, that is asked every two seconds whether it is over. ``wait_for_start`` is how many seconds (at most 300)
        an execution that is not there yet is waited for, in an open stream. With ``on_disconnect="cancel"`` the
        execution is cancelled once nobody has watched it for ``grace_seconds`` (0 to 86,400), on any gateway and by any
        route; it takes some six seconds more to be sure of that.

        What is wrong is answered as a problem: 400 for an id or a cursor that cannot be read, 404 for an execution that
        is not there, 503 while Redis is away; 204 for a client that has seen it all. Raises GatewayNotRunningError.
        """
        context = self.context
        access = OwnRouteAccess(context, request, allow=allow, until=until)
        wishes = Wishes(
            wire, after, types, step, mode, coalesce_ms, merge, on_disconnect, grace_seconds, wait_for_start
        )
        return OpenedLater(context, lambda: open_own(context, access, request, str(execution), wishes))

    def multiplex(
        self,
        request: Request,
        executions: Sequence[str],
        *,
        types: Sequence[str] | None = None,
        step: str | None = None,
        mode: str | None = None,
        coalesce_ms: int = 0,
        merge: Merge | None = None,
        allow: Allow | None = None,
        until: Until | None = None,
    ) -> Response:
        """Answer a route of one's own with several executions (1 to 64) over one SSE response, in our envelope.

        The ``id:`` of each event carries the cursors of all of them, in the order in which they are given, so that
        ``Last-Event-ID`` resumes every one. All else is as for ``stream``; each must be allowed. Raises
        GatewayNotRunningError.
        """
        context = self.context
        access = OwnRouteAccess(context, request, allow=allow, until=until)
        parameters = own_parameters(request, types=types, step=step, mode=mode, coalesce_ms=coalesce_ms, merge=merge)
        ids = list(map(str, executions))
        return OpenedLater(context, lambda: open_several(context, access, parameters(), ids, field="executions"))

    def activity(
        self,
        request: Request,
        *,
        types: Sequence[str] | None = None,
        pipeline: str | None = None,
        tenant: str | None = None,
        allow: Allow | None = None,
        until: Until | None = None,
    ) -> Response:
        """Answer a route of one's own with what happens to all executions, as SSE, from now on or where it resumes.

        ``allow`` is asked about each change, by what that tells of the execution's state: id, pipeline and tenant;
        viewers with the same function share what is rendered. All else is as for ``stream``. Raises
        GatewayNotRunningError.
        """
        context = self.context
        access = OwnRouteAccess(context, request, allow=None, until=until)
        parameters = own_parameters(request, types=types)
        authorize = None if allow is None else _as_authorize(allow)

        async def opening() -> Response:
            given = parameters()
            return await open_activity(
                context, access, given, activity_filter(given, access, pipeline, tenant, authorize)
            )

        return OpenedLater(context, opening)

    async def resumed(self, request: HTTPConnection, *, wire: Wire | None = None) -> Handle | None:
        """Give the execution that the client comes back to, by ``Last-Event-ID``; None for a new client.

        For a route that begins an execution and streams it: ``await gateway.resumed(request) or await submit()``. An
        ``SseWire`` writes ids that name the execution; one whose cursors are spelled otherwise is to be given. Whether
        the client may see it is for ``allow`` of ``stream`` to say. Raises HTTPException (400) for an id that is none.
        """
        execution_id = resumed_of(request, None if wire is None else self.context.wires.format_of(wire))
        return None if execution_id is None else self.bus.handle(execution_id)

    def session(
        self,
        socket: WebSocket,
        *,
        wire: SocketWire,
        allow: Allow | None = None,
        until: Until | None = None,
        subprotocol: str | None = None,
        subject: str = "application",
    ) -> Session:
        """A WebSocket with messages of one's own, and subscriptions that come and go; see ``Session``.

        ``subprotocol`` is what the socket is accepted with, where the route has not; ``subject`` its name in
        ``clients``; ``allow`` and ``until`` are as for ``stream``. Raises GatewayNotRunningError, InvalidInputError.
        """
        rendering = self.context.wires.format_of(wire)
        if not isinstance(rendering, OwnSocket):
            raise InvalidInputError("wire", f"{type(wire).__name__} is not for WebSockets; derive from SocketWire")
        access = OwnRouteAccess(self.context, socket, allow=allow, until=until, subject=subject)
        return Session(self.context, socket, rendering, access, subprotocol)

    async def clients(self, execution: str | None = None) -> list[dict[str, Any]]:
        """Give the live connections of all gateways, or an execution's, as ``GET /v1/clients`` does.

        Each shows its first 64 executions; true within seconds. Raises BusUnavailableError, GatewayNotRunningError.
        """
        found = await self.context.presence.clients(lambda each: execution is None or execution in each.executions)
        return [{"id": each.id, "gateway": each.gateway, **each.record.model_dump()} for each in found]

    async def subscribers(self, execution: str) -> int:
        """Count an execution's viewers, of all gateways; true within seconds.

        Raises InvalidExecutionIdError, BusUnavailableError, GatewayNotRunningError.
        """
        found = await self.context.presence.subscribers(check_execution_id(str(execution)))
        return found.total

    async def socket(
        self,
        socket: WebSocket,
        execution: str,
        *,
        wire: SocketWire,
        after: Cursor | str | None = None,
        types: Sequence[str] | None = None,
        step: str | None = None,
        mode: str | None = None,
        coalesce_ms: int = 0,
        merge: Merge | None = None,
        allow: Allow | None = None,
        until: Until | None = None,
        wait_for_start: float = 0.0,
        compress: bool = False,
        subprotocol: str | None = None,
    ) -> None:
        """Serve one execution's events over a WebSocket; returns when it has ended, or the client has left.

        All as for ``stream``. ``compress`` compresses what it says, where client and server have agreed that they can
        (uvicorn: ``--ws-per-message-deflate true``, its default). What is wrong is told in the wire's words, and by the
        code that the socket closes with: 4404 for an execution that is not there, 4400 for a request that cannot be
        used, 1013 to come again, 1000 after the ending. What the client says is not looked at. Raises
        GatewayNotRunningError, InvalidInputError.
        """
        session = self.session(socket, wire=wire, allow=allow, until=until, subprotocol=subprotocol)
        filters = {"types": types, "step": step, "mode": mode, "coalesce_ms": coalesce_ms, "merge": merge}
        asked = StreamParameters.of(socket)
        await session.serve_one(str(execution), asked, after, filters, wait_for_start=wait_for_start, compress=compress)

    async def page(
        self,
        request: Request,
        execution: str,
        *,
        after: Cursor | str | None = None,
        limit: int | None = None,
        last: int | None = None,
        wait: float = 0.0,
        types: Sequence[str] | None = None,
        step: str | None = None,
        mode: str | None = None,
        allow: Allow | None = None,
    ) -> Response:
        """Answer a route of one's own with a page of an execution's log, as our own route does.

        ``after`` a cursor, or with the newest ``last``; at most ``limit`` events; an empty page waits ``wait`` seconds
        (at most 50) for an event. What is wrong is answered as a problem. Raises GatewayNotRunningError.
        """
        context = self.context
        try:
            execution_id = check_execution_id(execution)
            access = OwnRouteAccess(context, request, allow=allow, until=None)
            query = page_query(
                context,
                after=None if after is None else str(after),
                limit=limit,
                last=last,
                wait=wait,
                filters={},
                wanted=own_filter(types, step, mode),
            )
            await access.run(execution_id)
            return await read_page(request, access, execution_id, query)
        except PROBLEMS as error:
            return answer(request, error)

    @property
    def problem_handlers(self) -> dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]]:
        """Handlers for an application that wants problem details for these errors on routes of its own.

        For ``FastAPI(exception_handlers=gateway.problem_handlers)``. Our own routes do not need them.
        """
        return dict.fromkeys(PROBLEMS, _answer)

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncGenerator[None, None]:
        """For ``FastAPI(lifespan=gateway.lifespan)``: as ``running``."""
        del app
        async with self.running():
            yield

    @asynccontextmanager
    async def running(self, *, hear_signals: bool = True) -> AsyncGenerator[Gateway, None]:
        """Serve until left; entered again meanwhile, it is the same gateway.

        When the process is told to stop (SIGTERM, SIGINT), viewers are sent on to other instances, spread over
        ``drain_seconds``, while the server still waits for its connections; handlers that there are, are called all the
        same. Off with ``hear_signals=False``: then call ``drain`` where the stop is known. Raises BusUnavailableError,
        ReplyError and InvalidInputError as ``open_bus`` does.
        """
        self._users += 1
        try:
            if self._users > 1:
                yield self
                return
            async with AsyncExitStack() as stack:
                context = await self._start(stack)
                if hear_signals:
                    stack.enter_context(hearing_stops(lambda: self._drain_soon(stack, context)))
                yield self
        finally:
            self._users -= 1

    async def drain(self) -> None:
        """Ask all viewers to come back elsewhere, spread over ``drain_seconds`` of the settings."""
        await self.context.drain()

    @property
    def is_draining(self) -> bool:
        """Whether viewers are being sent away: streams of your own should end then, so that the server can stop."""
        return self.context.draining

    def _drain_soon(self, stack: AsyncExitStack, context: GatewayContext) -> None:
        if context.draining:
            return
        logger.info("gateway: told to stop; viewers are asked to come back elsewhere")
        context.draining = True
        # A server such as uvicorn closes sockets by itself at once; streams it waits for.
        context.hub.send_away_at_once(lambda viewer: viewer.rendering.is_socket, context.settings.drain_seconds)
        draining = asyncio.create_task(context.drain(), name="gateway:drain")
        stack.callback(draining.cancel)

    async def _start(self, stack: AsyncExitStack) -> GatewayContext:
        if isinstance(self._redis, Bus):
            # Once more, for an application that starts a second time, as under a test client.
            context = self._new_context(self._redis) if self.context.ran else self.context
        else:
            context = self._new_context(await stack.enter_async_context(await open_bus(self._redis)))
            stack.callback(self._forget)
        context.ran = True
        self._context = context
        bus, settings = context.bus, context.settings
        context.stepped = await why_stepped(wanted=settings.direct_writes)
        tail, limits = await bus.tail(), _limits(settings)
        await context.auth.start()
        stack.push_async_callback(context.auth.aclose)
        context.hub = Hub(bus.log, tail, limits, healer=bus.healer)
        stack.push_async_callback(context.hub.aclose)
        context.activity = Hub(bus.activity.log, tail, limits)
        stack.push_async_callback(context.activity.aclose)
        # Here too, so that the truth is told though all the workers are dead.
        await stack.enter_async_context(bus.healer.running())
        await stack.enter_async_context(context.metrics.running())
        await stack.enter_async_context(context.presence.running())
        await stack.enter_async_context(context.unwatched.running())
        return context

    def _forget(self) -> None:
        self._context = None

    def _new_context(self, bus: Bus) -> GatewayContext:
        context = GatewayContext(bus, self.settings, self._authenticate, self._authorize)
        context.metrics = metrics_of(context)
        return context

    def _enter(self, scope: Scope) -> GatewayContext:
        """Have a request to one of our routes find its gateway. Raises ForbiddenError, GatewayNotRunningError."""
        if not self._users:
            raise GatewayNotRunningError
        context = scope[SCOPE_KEY] = self.context
        note_base(scope)
        if not context.auth.required:
            check_local(scope)
        return context


@lru_cache(maxsize=256)
def _as_authorize(allow: Allow) -> Authorize:
    """The same for the same function: what is equal is rendered once."""
    return lambda _, state, __: allow(state)


async def _answer(request: Request, error: Any) -> Response:
    # In the loop: FastAPI would give a plain function a thread.
    return answer(request, error)


def _limits(settings: GatewaySettings) -> HubLimits:
    return HubLimits(
        heartbeat_seconds=settings.heartbeat_seconds,
        slow_timeout_seconds=settings.slow_timeout_seconds,
        linger_seconds=settings.linger_seconds,
        ring_entries=settings.ring_entries,
        ring_bytes=settings.ring_bytes,
    )
