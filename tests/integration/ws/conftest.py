from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tailrace.bus import Bus, BusSettings, open_bus
from tests.integration.gateway.live import live_gateway


@pytest.fixture
async def bus(server_url: str, prefix: str) -> AsyncGenerator[Bus, None]:
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as opened:
        yield opened


@pytest.fixture
async def gateway_url(bus: Bus) -> AsyncGenerator[str, None]:
    async with live_gateway(bus) as url:
        yield url.replace("http", "ws", 1)
