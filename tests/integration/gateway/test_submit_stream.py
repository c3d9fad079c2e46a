"""POST /v1/executions/stream: one request that submits and watches."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, aconnect_sse

from tailrace.bus import Bus

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("both_ways")]

STREAM = "/v1/executions/stream"
WORK = {"pipeline": "document", "input": {"path": "a.md"}}


async def run(bus: Bus, execution_id: str) -> None:
    async with bus.execution(execution_id) as execution:
        for number in range(3):
            await execution.emit("custom.count", {"number": number})


async def watched(client: httpx.AsyncClient, bus: Bus, body: dict[str, Any], **options: Any) -> list[ServerSentEvent]:
    frames: list[ServerSentEvent] = []
    running: asyncio.Task[None] | None = None
    async with aconnect_sse(client, "POST", STREAM, json=body, **options) as source:
        assert source.response.status_code == 200, await source.response.aread()
        location = source.response.headers["location"]
        async for frame in source.aiter_sse():
            frames += [frame] if frame.data else []
            if frame.event == "stream.caught_up":
                # Whoever runs it begins when the response has begun: nothing of it may be missed.
                running = asyncio.create_task(run(bus, location.rpartition("/")[2]))
    if running is not None:
        await running
    return frames


async def test_one_request_submits_and_gives_all_events_up_to_the_ending(bus: Bus, client: httpx.AsyncClient) -> None:
    frames = await watched(client, bus, WORK)
    events = [frame.event for frame in frames if frame.id and not frame.event.startswith("stream.")]
    assert events == [
        "execution.queued",
        "execution.started",
        "custom.count",
        "custom.count",
        "custom.count",
        "execution.completed",
    ]
    assert frames[-1].event == "stream.end"
    submission = await bus.jobs.submission_of(json.loads(frames[0].data)["execution_id"])
    assert submission is not None
    assert submission.input == {"path": "a.md"}


async def test_the_request_again_resumes_and_submits_nothing_twice(bus: Bus, client: httpx.AsyncClient) -> None:
    body = {**WORK, "execution_id": "mine"}
    frames = await watched(client, bus, body)
    ids = [frame.id for frame in frames if frame.event == "custom.count"]
    again = await watched(client, bus, body, headers={"Last-Event-ID": ids[1]})
    over = await client.post(STREAM, json=body, headers={"Last-Event-ID": frames[-2].id})

    assert [frame.event for frame in again] == ["stream.open", "custom.count", "execution.completed", "stream.end"]
    assert (over.status_code, over.headers["location"]) == (204, "/v1/executions/mine")
    state = (await client.get("/v1/executions/mine")).json()
    assert (state["attempt"], state["entries"]) == (1, 6)


async def test_lines_come_to_who_accepts_them_and_filters_count(bus: Bus, client: httpx.AsyncClient) -> None:
    submitted = {**WORK, "execution_id": "lines"}
    await client.post("/v1/executions", json=submitted)
    await run(bus, "lines")
    answer = await client.post(
        STREAM, json=submitted, params={"types": "custom.*"}, headers={"Accept": "application/x-ndjson"}
    )
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    types = [json.loads(line)["type"] for line in answer.text.splitlines()]
    assert types == ["stream.open", *["custom.count"] * 3, "execution.completed", "stream.end"]


@pytest.mark.parametrize(
    ("query", "headers", "status", "field"),
    [
        ("?types=A", {}, 400, "types"),
        ("?from=x", {}, 400, "from"),
        ("", {"Last-Event-ID": "x"}, 400, "Last-Event-ID"),
        ("?coalesce_ms=5000", {}, 400, "coalesce_ms"),
        ("?events=x", {}, 400, "events"),
        ("", {"Accept": "application/json"}, 406, "Accept"),
        ("", {"Content-Type": "text/plain"}, 415, "Content-Type"),
    ],
)
async def test_a_wish_that_cannot_be_met_submits_nothing(
    bus: Bus, client: httpx.AsyncClient, *, query: str, headers: dict[str, str], status: int, field: str
) -> None:
    body = json.dumps({**WORK, "execution_id": "never"})
    answer = await client.post(
        f"{STREAM}{query}", content=body, headers={"Content-Type": "application/json", **headers}
    )
    assert (answer.status_code, answer.json()["field"]) == (status, field)
    assert not await bus.log.exists("never")


async def test_a_conflict_is_a_problem_and_no_stream(client: httpx.AsyncClient) -> None:
    await client.post("/v1/executions", json={**WORK, "execution_id": "taken"})
    answer = await client.post(STREAM, json={"pipeline": "other", "execution_id": "taken"})
    assert (answer.status_code, answer.json()["code"]) == (409, "execution_exists")
