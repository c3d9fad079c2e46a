from __future__ import annotations

from uuid import uuid4

import pytest


@pytest.fixture
def run() -> str:
    return f"run-{uuid4().hex[:8]}"
