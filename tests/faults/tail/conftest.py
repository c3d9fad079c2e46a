from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.servers import RunningServer, spawn_server


@pytest.fixture
def run() -> str:
    return f"run-{uuid4().hex[:8]}"


@pytest.fixture(params=["valkey", "redis"])
def own_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningServer]:
    """A server of the test's own, of each kind in turn."""
    with spawn_server(request.param, directory=tmp_path) as server:
        yield server
