"""GET /v1/executions/{id}/requests, and what the state says of who runs it."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tailrace.bus import Bus
from tailrace.bus.ownership.checkpoints import pack
from tailrace.bus.queries.requests import MAX_SHOWN

pytestmark = pytest.mark.anyio


async def test_requests_are_told_with_who_asked_and_whether_they_were_answered(
    bus: Bus, client: httpx.AsyncClient
) -> None:
    await bus.submit("document", execution_id="e")
    asked = await bus.control.signal("e", "go", {"n": 1}, by="ana")
    before = (await client.get("/v1/executions/e/requests")).json()["items"]
    await bus.control.cancel("e", reason="wrong input")
    after = (await client.get("/v1/executions/e/requests")).json()["items"]

    assert [(item["id"], item["type"]) for item in before] == [(asked.request, "execution.signal_requested")]
    assert (before[0]["by"], before[0]["name"], before[0]["data"]) == ("ana", "go", {"n": 1})
    assert [item["answered"] for item in before] == [False]
    assert [(item.get("reason"), item["answered"]) for item in after] == [(None, True), ("wrong input", True)]


async def test_an_answer_in_the_log_is_seen(bus: Bus, client: httpx.AsyncClient) -> None:
    async with bus.execution("e") as execution:
        waiting = asyncio.create_task(execution.signal("go"))
        await bus.control.signal("e", "go", wait_seconds=10)
        await waiting
        items = (await client.get("/v1/executions/e/requests")).json()["items"]
    assert [(item["name"], item["answered"]) for item in items] == [("go", True)]


async def test_only_the_newest_are_shown(bus: Bus, client: httpx.AsyncClient) -> None:
    await bus.submit("document", execution_id="e")
    for number in range(MAX_SHOWN + 5):
        await bus.control.signal("e", "count", number)
    items = (await client.get("/v1/executions/e/requests")).json()["items"]
    assert [item["data"] for item in items] == list(range(5, MAX_SHOWN + 5))


async def test_nobody_was_asked_of_what_nobody_knows(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/executions/nobody/requests")
    assert (answer.status_code, answer.json()["code"]) == (404, "execution_unknown")


async def test_the_state_names_the_owner_and_the_steps_that_are_kept(bus: Bus, client: httpx.AsyncClient) -> None:
    async with bus.execution("e") as execution:
        await bus.checkpoints.store("e", "fetch", pack({"pages": 3}), fence=execution.fence)
        await bus.commands.command("HSET", bus.keys.checkpoints("e"), "\x1fs:parse", b"\x01")
        running = (await client.get("/v1/executions/e")).json()
    ended = (await client.get("/v1/executions/e")).json()
    assert running["owner"].startswith(bus.name)
    assert (running["checkpoints"], ended["owner"]) == (["fetch"], None)
