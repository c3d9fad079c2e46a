"""The gateway as a process: start with clear refusals, serve, drain, and be gone in bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Final

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from tailrace.bus import Bus, BusSettings, open_bus
from tailrace.bus.ops.service_manager import handed_over, tell, watched
from tailrace.bus.ops.stop_signals import obeying
from tailrace.bus.ops.supervised import announce, supervisor
from tailrace.gateway.app import GatewayApp, create_app
from tailrace.gateway.asgi.arrivals import MAX_HEAD_BYTES, Arrivals, Refusals
from tailrace.gateway.asgi.listener import (
    BACKLOG,
    ListenError,
    bind,
    listen,
    raise_file_limit,
    room_for_streams,
    tune,
    url_of,
)
from tailrace.gateway.asgi.server_writes import why_stepped
from tailrace.gateway.asgi.uvicorn_internals import bound_to, budgeted
from tailrace.gateway.auth.settings import check_host
from tailrace.gateway.context import GatewayContext
from tailrace.gateway.http.problems import Problem
from tailrace.gateway.limits.addresses import waiting_address
from tailrace.gateway.limits.sockets import MAX_FRAME_BYTES, PING_SECONDS, PONG_SECONDS
from tailrace.gateway.settings import GatewaySettings

logger = logging.getLogger(__name__)

EXIT_NO_PORT: Final = 3

# Beyond the drain: requests that are no streams may finish, then they are cancelled.
GRACE_SECONDS: Final = 3

# Of the room for live connections, what one address may have of connections without a request.
WAITING_PART: Final = 8
MIN_WAITING: Final = 32


def serve(settings: GatewaySettings, bus_settings: BusSettings) -> int:
    """Serve until SIGTERM, SIGINT or SIGHUP.

    The exit code: 0 when told to stop, 3 without its port. Raises BusError when Redis cannot be used.
    """
    settings = _with_room(settings, raise_file_limit())
    try:
        with (
            _listener(settings) as listener,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(_serve(listener, settings, bus_settings))
    except ListenError as error:
        return _refuse(error, EXIT_NO_PORT)
    except (KeyboardInterrupt, asyncio.CancelledError):
        # Told to stop before it was ready: there are no viewers yet.
        return 0
    return 0


def _listener(settings: GatewaySettings) -> socket.socket:
    """Bound by us, or handed over by the service manager. Raises ListenError."""
    given = handed_over()
    if given is None:
        seconds = settings.vanished_seconds
        return bind(settings.host, settings.port, vanished_seconds=seconds, shared=supervisor() is not None)
    if given.family not in {socket.AF_INET, socket.AF_INET6} or given.type != socket.SOCK_STREAM:
        raise ListenError("the socket that the service manager hands over is not a TCP socket: see ListenStream=")
    try:
        check_host(given.getsockname()[0], auth_required=settings.auth_required)
    except ValueError as error:
        raise ListenError(f"the socket that the service manager hands over: {error}") from None
    tune(given, settings.vanished_seconds)
    return given


def _with_room(settings: GatewaySettings, files: int) -> GatewaySettings:
    """Refuse streams in words before the system refuses connections without any."""
    room = room_for_streams(files)
    if settings.max_connections <= room:
        return settings
    # The default was not asked for.
    level = logging.WARNING if "max_connections" in settings.model_fields_set else logging.DEBUG
    logger.log(
        level,
        "TAILRACE_MAX_CONNECTIONS is %d, but %d files may be open: %d streams at most; raise it with ulimit -n",
        settings.max_connections,
        files,
        room,
    )
    return settings.model_copy(update={"max_connections": room})


class GatewayServer(uvicorn.Server):
    """uvicorn, but a stop first sends the viewers away, and a signal is an order that ends in exit code 0."""

    def __init__(self, app: GatewayApp, *, on_ready: Callable[[], None] = lambda: None) -> None:
        super().__init__(uvicorn_config(app))
        self._gateway: GatewayContext = app.state.gateway
        self._on_ready = on_ready
        self._forced = asyncio.Event()

    def stop(self) -> None:
        """Drain, then end. The second time: end at once."""
        if self.should_exit:
            self.force_exit = True
            self._forced.set()
        self._gateway.draining = True
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own would kill the process with the signal again once all is done.
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if await why_stepped(wanted=self._gateway.settings.direct_writes) is not None:
            # Its bounds for heads and frames are of the same kind: they lean on what uvicorn keeps to itself.
            self.config.http_protocol_class = HttpToolsProtocol
            self.config.ws_protocol_class = WebSocketsSansIOProtocol
        await super().startup(sockets)
        if self.started:
            tune_collector()
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._gateway.draining = True
        # Clients must not come back here: a refused connection is tried again, elsewhere or later, while
        # an EventSource gives up for ever on an answer such as 503.
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        await self._drain()
        await super().shutdown(sockets)

    async def _drain(self) -> None:
        seconds = self._gateway.settings.drain_seconds
        drain = asyncio.create_task(self._gateway.drain())
        forced = asyncio.create_task(self._forced.wait())
        await asyncio.wait([drain, forced], timeout=seconds + GRACE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for task in (drain, forced):
            task.cancel()
        await asyncio.wait([drain, forced])
        if not drain.cancelled() and (error := drain.exception()) is not None:
            logger.error("drain failed; viewers are disconnected and will resume", exc_info=error)


def tune_collector() -> None:
    """Spare the garbage collector what lives as long as the process, and have it look less often.

    Entries come and go by reference counting; left alone, they would have the collector walk over every connection
    several times a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def uvicorn_config(app: GatewayApp) -> uvicorn.Config:
    gateway: GatewayContext = app.state.gateway
    return uvicorn.Config(
        app,
        http=bound_to(_arrivals(gateway)),
        ws=budgeted(gateway.bus.counters.add),
        ws_max_size=MAX_FRAME_BYTES,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PONG_SECONDS,
        # Costs more processor and memory for each connection than all the rest of it.
        ws_per_message_deflate=gateway.settings.ws_deflate,
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Whom X-Forwarded-For may be believed from is not known here.
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _arrivals(gateway: GatewayContext) -> Arrivals:
    settings, trusted = gateway.settings, gateway.settings.trusted_proxies
    # As for live connections: where no credential is asked for, all come from this machine.
    per_address = settings.max_connections_per_ip if settings.auth_required else 0
    return Arrivals(
        Refusals(
            Problem(408, "head_timeout", f"the head did not arrive within {settings.head_seconds:g} s").closing(),
            Problem(431, "head_too_large", f"the head has more than {MAX_HEAD_BYTES} bytes").closing(),
            Problem(400, "invalid_http", "the request is not valid HTTP/1.1").closing(),
            Problem(429, "too_many_connections", "too many connections of this address without a request").closing(),
        ),
        head_seconds=settings.head_seconds,
        count=gateway.bus.counters.add,
        address_of=(lambda peer: waiting_address(peer, trusted)) if per_address else (lambda _peer: None),
        # One address cannot take all the room there is, even where few files may be open.
        per_address=min(per_address, max(MIN_WAITING, settings.max_connections // WAITING_PART)),
    )


async def _serve(listener: socket.socket, settings: GatewaySettings, bus_settings: BusSettings) -> None:
    """Raises BusError when Redis cannot be used, ListenError, CancelledError when told to stop before it began."""
    stopped = asyncio.Event()
    server: GatewayServer | None = None

    def stop(_order: object) -> None:
        tell("STOPPING=1")
        stopped.set()
        if server is not None:
            server.stop()

    with obeying(stop):
        async with watched(), await _open(bus_settings, stopped) as bus:
            tail = await bus.tail()
            listen(listener)
            app = create_app(bus, settings)
            server = GatewayServer(app, on_ready=lambda: _announce(url_of(listener), bus, tail.mode))
            if stopped.is_set():
                server.stop()
            await server.serve([listener])
    logger.info("gateway: stopped")


async def _open(bus_settings: BusSettings, stopped: asyncio.Event) -> Bus:
    opening = asyncio.create_task(open_bus(settings=bus_settings))
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait([opening, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    while stopped.is_set() and not opening.done():
        # Once is not enough: a cancellation that meets redis-py just as it has connected is lost.
        opening.cancel()
        await asyncio.wait([opening], timeout=0.1)
    return await opening


def _announce(url: str, bus: Bus, tail_mode: str) -> None:
    announce(f"gateway ready at {url}", f"tail {tail_mode}", f"prefix {bus.settings.prefix}")


def _refuse(error: Exception, code: int) -> int:
    sys.stderr.write(f"tailrace gateway: {' '.join(str(error).split())}\n")
    return code
