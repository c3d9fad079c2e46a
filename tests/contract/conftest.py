from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bus.address import dial_of
from bus.counters import Counters
from bus.keys import Keys
from bus.line import Line
from tests.servers import RunningServer


@pytest.fixture
async def line(each_server_url: str) -> AsyncIterator[Line]:
    """A connection to the shared server of each kind in turn. Keep to your ``keys``."""
    line = Line(dial_of(each_server_url), counters=Counters(), name="test")
    await line.connect()
    yield line
    await line.aclose()


@pytest.fixture
def keys(prefix: str) -> Keys:
    return Keys(prefix)


@pytest.fixture
async def fresh_server_line(fresh_server: RunningServer) -> AsyncIterator[Line]:
    line = Line(dial_of(fresh_server.url), counters=Counters(), name="test")
    await line.connect()
    yield line
    await line.aclose()
