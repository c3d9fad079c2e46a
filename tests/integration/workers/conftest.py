from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tailrace.bus import Bus, BusSettings, open_bus

LEASE_SECONDS = 1.0


@pytest.fixture
def settings(prefix: str) -> BusSettings:
    """Leases are short, so that a lost worker is found while the test waits."""
    return BusSettings(prefix=prefix, lease_seconds=LEASE_SECONDS)


@pytest.fixture
async def bus(anyio_backend: str, server_url: str, settings: BusSettings) -> AsyncIterator[Bus]:
    async with await open_bus(server_url, settings=settings) as opened:
        yield opened
