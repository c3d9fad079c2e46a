from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tailrace.bus import Bus, BusSettings, open_bus
from tailrace.bus.healing.healer import Healer
from tests.integration.bus.healing.orphans import (
    DeadLetters,
    Jobs,
    healer_of,
)


@pytest.fixture
async def bus(each_server_url: str, prefix: str) -> AsyncIterator[Bus]:
    async with await open_bus(each_server_url, settings=BusSettings(prefix=prefix, lease_seconds=1.0)) as opened:
        yield opened


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
def dead_letters() -> DeadLetters:
    return DeadLetters()


@pytest.fixture
def healer(bus: Bus, jobs: Jobs, dead_letters: DeadLetters) -> Healer:
    return healer_of(bus, jobs, dead_letters)
