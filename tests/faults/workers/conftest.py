from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tailrace.bus import Bus, BusSettings, open_bus

LEASE_SECONDS = 1.5
# What the design allows from the death of a worker to its runs going on elsewhere, or to the truth in their logs.
BUDGET_SECONDS = LEASE_SECONDS + 2.0
# The machine runs these tests among many others: whoever takes over has to be given a processor first.
SCHEDULING_SECONDS = 2.0


@pytest.fixture
def settings(prefix: str) -> BusSettings:
    return BusSettings(prefix=prefix, lease_seconds=LEASE_SECONDS)


@pytest.fixture
async def bus(server_url: str, settings: BusSettings) -> AsyncIterator[Bus]:
    """Submits, and reads what happens; works and heals nothing."""
    async with await open_bus(server_url, settings=settings) as opened:
        yield opened
