"""What every route of one gateway process shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from bus import Bus
from gateway.hub import Hub
from gateway.settings import GatewaySettings


@dataclass(slots=True)
class Gateway:
    """``hub`` is there from the application's start on; ``draining`` once it was told to stop."""

    bus: Bus
    settings: GatewaySettings
    hub: Hub = field(init=False)
    draining: bool = False


async def gateway_of(connection: HTTPConnection) -> Gateway:
    return cast("Gateway", connection.app.state.gateway)


CurrentGateway = Annotated[Gateway, Depends(gateway_of)]
