from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from tailrace.bus import Bus, BusSettings, open_bus

LEASE_SECONDS = 1.5
# What the design allows from the death of an owner to the truth in its log.
BUDGET_SECONDS = LEASE_SECONDS + 2.0


@pytest.fixture
def run() -> str:
    return f"run-{uuid4().hex[:8]}"


@pytest.fixture
async def bus(server_url: str, prefix: str) -> AsyncIterator[Bus]:
    """Reads what happens; runs and heals nothing."""
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix, lease_seconds=LEASE_SECONDS)) as opened:
        yield opened
