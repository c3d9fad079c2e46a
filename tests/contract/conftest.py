from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tailrace.bus.model.counters import Counters
from tailrace.bus.model.keys import Keys
from tailrace.bus.redis.address import dial_of
from tailrace.bus.redis.supervised import SupervisedConnection
from tests.servers import RunningServer


@pytest.fixture
async def line(each_server_url: str) -> AsyncIterator[SupervisedConnection]:
    """A connection to the shared server of each kind in turn. Keep to your ``keys``."""
    line = SupervisedConnection(dial_of(each_server_url), counters=Counters(), name="test")
    await line.connect()
    yield line
    await line.aclose()


@pytest.fixture
def keys(prefix: str) -> Keys:
    return Keys(prefix)


@pytest.fixture
async def fresh_server_line(fresh_server: RunningServer) -> AsyncIterator[SupervisedConnection]:
    line = SupervisedConnection(dial_of(fresh_server.url), counters=Counters(), name="test")
    await line.connect()
    yield line
    await line.aclose()
