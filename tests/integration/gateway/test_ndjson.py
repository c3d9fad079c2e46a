"""The stream as one JSON object a line, for programs that would rather not parse SSE."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from tailrace.bus import Bus

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("both_ways")]

NDJSON = {"Accept": "application/x-ndjson"}
URL = "/v1/executions/e/events"


async def publish(bus: Bus, first: int, count: int, *, end: bool = False) -> None:
    async with aclosing(bus.publisher("e")) as publisher:
        for number in range(first, first + count):
            await publisher.emit("custom.count", {"n": number})
        if end:
            await publisher.emit("execution.completed", {})


async def lines(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in answer.aiter_lines():
        if line:
            yield json.loads(line)


async def test_the_log_comes_as_lines_live_until_the_ending(bus: Bus, client: httpx.AsyncClient) -> None:
    await publish(bus, 0, 3)
    got: list[dict[str, Any]] = []
    async with client.stream("GET", URL, headers=NDJSON) as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert answer.headers["cache-control"] == "no-cache, no-transform"
        assert answer.headers["x-accel-buffering"] == "no"
        async for line in lines(answer):
            got.append(line)
            if line["type"] == "stream.caught_up":
                await publish(bus, 3, 2, end=True)
    types = [line["type"] for line in got]
    assert (types[0], types[-2:]) == ("stream.open", ["execution.completed", "stream.end"])
    assert [line["data"]["n"] for line in got if line["type"] == "custom.count"] == list(range(5))
    assert all("id" in line for line in got if not line["type"].startswith("stream."))


@pytest.mark.parametrize("by", ["header", "query"])
async def test_lines_resume_after_a_cursor(bus: Bus, client: httpx.AsyncClient, by: str) -> None:
    await publish(bus, 0, 5, end=True)
    async with client.stream("GET", URL, headers=NDJSON) as answer:
        ids = [line["id"] async for line in lines(answer) if "id" in line]
    headers = {**NDJSON, **({"Last-Event-ID": ids[2]} if by == "header" else {})}
    params = {"from": ids[2]} if by == "query" else {}
    async with client.stream("GET", URL, headers=headers, params=params) as answer:
        assert [line["id"] async for line in lines(answer) if "id" in line] == ids[3:]


async def test_nothing_follows_the_ending(bus: Bus, client: httpx.AsyncClient) -> None:
    await publish(bus, 0, 1, end=True)
    state = (await client.get("/v1/executions/e")).json()
    answer = await client.get(URL, headers={**NDJSON, "Last-Event-ID": state["terminal"]["id"]})
    assert (answer.status_code, answer.content) == (204, b"")


async def test_a_filter_applies_to_lines(bus: Bus, client: httpx.AsyncClient) -> None:
    await publish(bus, 0, 4, end=True)
    async with client.stream("GET", URL, headers=NDJSON, params={"types": "step.*"}) as answer:
        shown = [line["type"] async for line in lines(answer)]
    assert "custom.count" not in shown
    assert "execution.completed" in shown


async def test_any_application_type_is_still_a_page(bus: Bus, client: httpx.AsyncClient) -> None:
    await publish(bus, 0, 1)
    answer = await client.get(URL, headers={"Accept": "application/*"})
    assert answer.headers["content-type"] == "application/json"
