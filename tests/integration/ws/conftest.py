from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tailrace.bus import Bus, BusSettings, open_bus
from tests.integration.gateway.conftest import both_ways
from tests.integration.gateway.live import live_gateway

__all__ = ["both_ways", "bus", "gateway_url"]


@pytest.fixture
async def bus(server_url: str, prefix: str) -> AsyncGenerator[Bus, None]:
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as opened:
        yield opened


@pytest.fixture
async def gateway_url(bus: Bus) -> AsyncGenerator[str, None]:
    async with live_gateway(bus) as url:
        yield url.replace("http", "ws", 1)
