"""A gateway as a process of its own, and a bus beside it, for the tests of a module."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from uuid import uuid4

import pytest

from tailrace.bus import Bus, BusSettings, open_bus
from tests.integration.gateway.live import GatewayProcess


@pytest.fixture(scope="module")
def module_prefix() -> str:
    return f"t{uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def gateway(server_url: str, module_prefix: str) -> Iterator[GatewayProcess]:
    """Nobody kills this one."""
    with GatewayProcess(redis_url=server_url, prefix=module_prefix, heartbeat_seconds="1") as process:
        yield process


@pytest.fixture(scope="module")
def gateway_url(gateway: GatewayProcess) -> str:
    return gateway.url()


@pytest.fixture
async def bus(server_url: str, module_prefix: str) -> AsyncGenerator[Bus, None]:
    async with await open_bus(server_url, settings=BusSettings(prefix=module_prefix)) as opened:
        yield opened


@pytest.fixture
def run() -> str:
    return f"run-{uuid4().hex[:8]}"
