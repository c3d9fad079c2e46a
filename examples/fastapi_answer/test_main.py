"""How to test an application with streams: a real bus, and no server."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx
import pytest
from main import application

from tailrace import Bus, Gateway
from tailrace.testing import assert_events

pytestmark = pytest.mark.anyio
ANN = {"user": "ann"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def client(tailrace_bus: Bus) -> AsyncGenerator[httpx.AsyncClient, None]:
    gateway = Gateway(tailrace_bus)
    transport = httpx.ASGITransport(application(gateway))
    async with gateway.running(), httpx.AsyncClient(transport=transport, base_url="http://test") as asking:
        yield asking


async def test_an_answer_is_streamed_and_resumes(client: httpx.AsyncClient, tailrace_bus: Bus) -> None:
    answer = (await client.post("/answers", json={"text": "why?"}, headers=ANN)).json()["id"]
    body = (await client.get(f"/answers/{answer}", headers=ANN)).text
    assert "".join(line.removeprefix('data: "')[:-1] for line in body.split("\n") if line.startswith('data: "')) == (
        "You asked: why? "
    )
    assert 'event: done\ndata: {"words":3}' in body
    await assert_events(
        tailrace_bus, answer, "execution.started", ..., ("execution.completed", {"result": {"words": 3}})
    )
    ids = [line.removeprefix("id: ") for line in body.split("\n") if line.startswith("id: ")]
    rest = (await client.get(f"/answers/{answer}", headers={**ANN, "Last-Event-ID": ids[-2]})).text
    assert [line for line in rest.split("\n") if line.startswith("event: ")] == ["event: done"]


async def test_an_answer_is_for_one_user_only(client: httpx.AsyncClient, tailrace_bus: Bus) -> None:
    answer = (await client.post("/answers", json={"text": "why?"}, headers=ANN)).json()["id"]
    await assert_events(tailrace_bus, answer, ..., "execution.completed")
    assert (await client.get(f"/answers/{answer}", headers=ANN)).status_code == 200
    refused = (await client.get(f"/answers/{answer}", headers={"user": "bob"})).text
    assert "execution_unknown" in refused
    assert "event: text" not in refused
