from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tailrace.bus import Bus, BusSettings, open_bus


@pytest.fixture
async def bus(each_server_url: str, prefix: str) -> AsyncIterator[Bus]:
    """On the shared server of each kind in turn. Never flush it."""
    async with await open_bus(each_server_url, settings=BusSettings(prefix=prefix)) as opened:
        yield opened


@pytest.fixture(params=["tracking", "blocking"])
async def tailing_bus(request: pytest.FixtureRequest, each_server_url: str, prefix: str) -> AsyncIterator[Bus]:
    """With each kind of tail, on each kind of server."""
    settings = BusSettings(prefix=prefix, tail=request.param)
    async with await open_bus(each_server_url, settings=settings) as opened:
        yield opened


@pytest.fixture
async def elsewhere(each_server_url: str, prefix: str) -> AsyncIterator[Bus]:
    """Another process's bus, as on another host."""
    async with await open_bus(each_server_url, settings=BusSettings(prefix=prefix)) as opened:
        yield opened
