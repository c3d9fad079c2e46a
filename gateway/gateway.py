"""The gateway as a part of an application: its routes, its lifespan, and the bus behind them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from tailrace.bus import Bus, open_bus
from tailrace.gateway.access.guard import check_local
from tailrace.gateway.asgi.server_writes import why_stepped
from tailrace.gateway.asgi.stopping import hearing_stops
from tailrace.gateway.context import SCOPE_KEY, GatewayContext
from tailrace.gateway.errors import GatewayNotRunningError
from tailrace.gateway.http.links import note_base
from tailrace.gateway.hub import Hub, HubLimits
from tailrace.gateway.metrics import metrics_of
from tailrace.gateway.routes.groups import DEFAULT_GROUPS, router_of
from tailrace.gateway.routes.problem_route import PROBLEMS
from tailrace.gateway.settings import GatewaySettings, read_settings
from tailrace.gateway.streams.deferred import answer

__all__ = ["Gateway", "GatewayNotRunningError", "GatewaySettings"]

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
        routes: Collection[str] = DEFAULT_GROUPS,
        settings: GatewaySettings | None = None,
    ) -> None:
        """``redis`` is a URL, as for ``open_bus``, or an open bus, which stays its owner's to close.

        Without one, ``TAILRACE_REDIS_URL`` says where Redis is. ``routes`` are groups of routes: ``executions``,
        ``control``, ``events``, ``publish``, ``submit_stream``, ``stream``, ``activity``, ``clients``, ``sockets``,
        ``security``, ``health``, ``metrics``; ``index`` only where it is named. ``settings`` are those of the
        environment where none are given; the application's server decides about address and port. Raises
        InvalidInputError that names what cannot be used.
        """
        self.settings = read_settings() if settings is None else settings
        self._redis = redis
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

    def _drain_soon(self, stack: AsyncExitStack, context: GatewayContext) -> None:
        if context.draining:
            return
        logger.info("gateway: told to stop; viewers are asked to come back elsewhere")
        context.draining = True
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
        return context

    def _forget(self) -> None:
        self._context = None

    def _new_context(self, bus: Bus) -> GatewayContext:
        context = GatewayContext(bus, self.settings)
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
