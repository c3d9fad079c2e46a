"""What every route of one gateway process shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from bus import Bus
from bus.metrics import Metrics
from gateway.auth.auth import Auth
from gateway.hub import Hub
from gateway.limits.connections import ConnectionLimits, Connections
from gateway.limits.rates import Rate, Rates
from gateway.metrics import metrics_of
from gateway.presence import Presence
from gateway.settings import GatewaySettings
from gateway.stats import Censuses


@dataclass(slots=True)
class Gateway:
    """``hub`` and ``activity`` are there from the application's start on; ``draining`` once it was told to stop."""

    bus: Bus
    settings: GatewaySettings
    auth: Auth = field(init=False)
    rates: Rates = field(init=False)
    connections: Connections = field(init=False)
    hub: Hub = field(init=False)
    presence: Presence = field(init=False)
    activity: Hub = field(init=False)
    censuses: Censuses = field(init=False)
    metrics: Metrics = field(init=False)
    draining: bool = False

    def __post_init__(self) -> None:
        bus, settings = self.bus, self.settings
        # The hub comes later.
        self.presence = Presence(bus, lambda: self.hub.viewers_by_execution())  # noqa: PLW0108 - as said
        self.censuses = Censuses(bus)
        self.metrics = metrics_of(self)
        self.auth = Auth(bus, settings)
        self.rates = Rates(
            bus.commands,
            bus.keys,
            bus.counters,
            {
                "requests": Rate(settings.requests_per_second, settings.requests_burst),
                "events": Rate(settings.events_per_second, settings.events_burst),
            },
        )
        self.connections = Connections(
            ConnectionLimits(
                settings.max_connections, settings.max_connections_per_principal, settings.max_connections_per_ip
            ),
            bus.counters,
        )


async def gateway_of(connection: HTTPConnection) -> Gateway:
    return cast("Gateway", connection.app.state.gateway)


CurrentGateway = Annotated[Gateway, Depends(gateway_of)]
