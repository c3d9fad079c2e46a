from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tailrace.bus import Bus, open_bus
from tests.faults.bus.lossy_proxy import LossyProxy
from tests.servers import RunningServer, spawn_server


@pytest.fixture
def tcp_server(tmp_path: Path) -> Iterator[RunningServer]:
    """On a port of 127.0.0.1, with AOF: what it has answered survives a restart."""
    with spawn_server("valkey", directory=tmp_path, appendonly=True, port=0) as server:
        yield server


@pytest.fixture
async def proxy(tcp_server: RunningServer) -> AsyncIterator[LossyProxy]:
    assert tcp_server.port is not None
    async with LossyProxy(tcp_server.port) as proxy:
        yield proxy


@pytest.fixture
async def direct_bus(tcp_server: RunningServer) -> AsyncIterator[Bus]:
    """Past the proxy, to see what is true."""
    async with await open_bus(tcp_server.url) as bus:
        yield bus
