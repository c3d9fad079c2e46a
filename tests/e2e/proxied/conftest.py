from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.proxied.clients import install_node_clients
from tests.e2e.proxied.pair import Pair


@pytest.fixture
def pair(server_url: str, module_prefix: str) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(stack, redis_url=server_url, prefix=module_prefix, drain_seconds="1", retry_ms="50")


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_node_clients(tmp_path_factory.mktemp("node"))
