from __future__ import annotations

from collections.abc import AsyncGenerator
from uuid import uuid4

import pytest

from tailrace.bus import Bus, BusSettings, open_bus
from tests.servers import RunningServer


@pytest.fixture
async def bus(fresh_server: RunningServer, prefix: str) -> AsyncGenerator[Bus, None]:
    async with await open_bus(fresh_server.url, settings=BusSettings(prefix=prefix)) as opened:
        yield opened


@pytest.fixture
def run() -> str:
    return f"run-{uuid4().hex[:8]}"
