from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx
import pytest

from tailrace.bus import Bus, BusSettings, open_bus
from tailrace.gateway.settings import read_settings
from tests.integration.auth.issuer import SECRET, Issuer
from tests.integration.gateway.live import live_gateway


@pytest.fixture
async def bus(server_url: str, prefix: str) -> AsyncGenerator[Bus, None]:
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as opened:
        yield opened


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
async def gateway_url(bus: Bus) -> AsyncGenerator[str, None]:
    """A gateway that asks for credentials."""
    async with live_gateway(bus, read_settings(drain_seconds=0, jwt_hs256_keys=SECRET)) as url:
        yield url


@pytest.fixture
async def client(gateway_url: str) -> AsyncGenerator[httpx.AsyncClient, None]:
    async with httpx.AsyncClient(base_url=gateway_url) as opened:
        yield opened
