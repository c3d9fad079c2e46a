"""What every route of one gateway process shares."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, Final, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from tailrace.bus import Bus
from tailrace.bus.ops.metrics import BusMetrics
from tailrace.bus.queries.counts import LiveCounts
from tailrace.gateway.auth.auth import Authenticate, Authenticator
from tailrace.gateway.auth.principal import Authorize
from tailrace.gateway.hub import Hub
from tailrace.gateway.limits.connections import ConnectionLimits, Connections
from tailrace.gateway.limits.rates import Rate, Rates
from tailrace.gateway.presence import Presence
from tailrace.gateway.presence.unwatched import Unwatched
from tailrace.gateway.settings import GatewaySettings
from tailrace.gateway.wire.own import Wires

# Where a request to one of our routes finds its gateway: there may be several in one application.
SCOPE_KEY: Final = "tailrace.gateway"


@dataclass(slots=True)
class GatewayContext:
    """``hub`` and ``activity`` are there from the application's start on; ``draining`` once it was told to stop."""

    bus: Bus
    settings: GatewaySettings
    # The application's own ways to tell who asks, and what for.
    authenticate: Authenticate | None = None
    authorize: Authorize | None = None
    auth: Authenticator = field(init=False)
    rates: Rates = field(init=False)
    connections: Connections = field(init=False)
    hub: Hub = field(init=False)
    presence: Presence = field(init=False)
    unwatched: Unwatched = field(init=False)
    activity: Hub = field(init=False)
    counts: LiveCounts = field(init=False)
    metrics: BusMetrics = field(init=False)
    wires: Wires = field(init=False)
    draining: bool = False
    # It has been started; a second start needs a new one.
    ran: bool = False
    # Why viewers are not written to directly, where they are not.
    stepped: str | None = None

    async def drain(self) -> None:
        """Send all viewers elsewhere, spread over the time that the settings give."""
        self.draining = True
        seconds = self.settings.drain_seconds
        await asyncio.gather(self.hub.drain(seconds), self.activity.drain(seconds))

    def __post_init__(self) -> None:
        bus, settings = self.bus, self.settings
        # The hub comes later.
        self.presence = Presence(bus, lambda: self.hub.viewers_by_execution(), lambda: self.connections.by_holder)  # noqa: PLW0108 - as said
        self.unwatched = Unwatched(bus, self.presence)
        self.counts = LiveCounts(bus.log)
        self.wires = Wires(bus.counters)
        self.auth = Authenticator(bus, settings, self.authenticate)
        self.auth.on_change = lambda: self.presence.end_where(self.auth.is_revoked)
        self.rates = Rates(
            bus.commands,
            bus.keys,
            bus.counters,
            {
                "requests": Rate(settings.requests_per_second, settings.requests_burst),
                "events": Rate(settings.events_per_second, settings.events_burst),
                "executions": Rate.an_hour(settings.tenant_executions_per_hour),
                "bytes": Rate.an_hour(settings.tenant_bytes_per_hour),
            },
        )
        self.connections = Connections(
            ConnectionLimits(
                settings.max_connections, settings.max_connections_per_principal, settings.max_connections_per_ip
            ),
            bus.counters,
        )


async def gateway_of(connection: HTTPConnection) -> GatewayContext:
    return cast("GatewayContext", connection.scope[SCOPE_KEY])


CurrentGateway = Annotated[GatewayContext, Depends(gateway_of)]
