from __future__ import annotations

from uuid import uuid4

import pytest

from tests.faults.bus.conftest import tcp_server

__all__ = ["tcp_server"]


@pytest.fixture
def run() -> str:
    return f"run-{uuid4().hex[:8]}"
