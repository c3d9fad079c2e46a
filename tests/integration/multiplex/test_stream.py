"""GET /v1/stream: several executions, one response, one Last-Event-ID."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from tailrace.bus import Bus

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("both_ways")]

RUNS = ["a", "b", "c"]
URL = "/v1/stream?" + "&".join(f"execution={run}" for run in RUNS)


class Seen:
    """What a client that keeps the last id has put together."""

    def __init__(self) -> None:
        self.numbers: dict[str, list[int]] = defaultdict(list)
        self.frames: list[dict[str, Any]] = []
        self.last_id: str | None = None

    @property
    def ended(self) -> set[str]:
        return {frame["execution_id"] for frame in self.frames if frame["event"] == "stream.end"}

    def take(self, frame: dict[str, Any]) -> None:
        self.frames.append(frame)
        self.last_id = frame["id"] or self.last_id
        if frame["event"] == "custom.count":
            self.numbers[frame["execution_id"]].append(frame["data"]["n"])

    def headers(self) -> dict[str, str]:
        return {"Last-Event-ID": self.last_id} if self.last_id else {}


async def publish(bus: Bus, run: str, first: int, count: int, *, end: bool = False) -> None:
    async with aclosing(bus.publisher(run)) as publisher:
        for number in range(first, first + count):
            await publisher.emit("custom.count", {"n": number})
        if end:
            await publisher.emit("execution.completed", {})


async def frames(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields or "id" in fields:
            payload = json.loads(fields["data"]) if "data" in fields else {}
            yield {"execution_id": None, **payload, "id": fields.get("id"), "event": fields.get("event")}
            fields = {}
        else:
            fields = {}


async def test_all_executions_come_over_one_response_and_it_ends_with_the_last(
    bus: Bus, client: httpx.AsyncClient
) -> None:
    for run in RUNS:
        await publish(bus, run, 0, 3)
    seen = Seen()
    async with client.stream("GET", URL) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        async for frame in frames(answer):
            seen.take(frame)
            if [each["event"] for each in seen.frames].count("stream.caught_up") == 3 and len(seen.ended) == 0:
                for run in RUNS:
                    await publish(bus, run, 3, 2, end=True)
                seen.frames.append({"event": "stream.end", "execution_id": "(published)"})
    assert seen.numbers == {run: list(range(5)) for run in RUNS}
    assert seen.ended >= set(RUNS)
    again = await client.get(URL, headers=seen.headers())
    assert (again.status_code, again.content) == (204, b"")


async def test_a_viewer_that_is_cut_anywhere_goes_on_in_every_execution(bus: Bus, client: httpx.AsyncClient) -> None:
    """Each connection is dropped after a few frames; put together, every execution is its log exactly."""
    for run in RUNS:
        await publish(bus, run, 0, 1)

    async def produce(run: str) -> None:
        for first in range(1, 60, 3):
            await publish(bus, run, first, 3)
            await asyncio.sleep(0)
        await publish(bus, run, 61, 0, end=True)

    seen, connections = Seen(), 0
    async with asyncio.TaskGroup() as group:
        for run in RUNS:
            group.create_task(produce(run))
        while connections < 200:
            connections += 1
            async with client.stream("GET", URL, headers=seen.headers()) as answer:
                if answer.status_code == 204:
                    break
                entries = 0
                async for frame in frames(answer):
                    seen.take(frame)
                    entries += frame["id"] is not None
                    if entries >= connections % 7 + 1:
                        break
    assert connections > 5
    assert seen.numbers == {run: list(range(61)) for run in RUNS}


async def test_from_tail_comes_back_to_where_it_began_though_nothing_had_happened(
    bus: Bus, client: httpx.AsyncClient
) -> None:
    for run in RUNS:
        await publish(bus, run, 0, 3)
    seen = Seen()
    async with client.stream("GET", URL + "&from=tail") as answer:
        async for frame in frames(answer):
            seen.take(frame)
            if frame["event"] == "stream.caught_up":
                break
    assert seen.numbers == {}
    for run in RUNS:
        await publish(bus, run, 3, 1, end=True)
    async with client.stream("GET", URL + "&from=tail", headers=seen.headers()) as answer:
        async for frame in frames(answer):
            seen.take(frame)
    assert seen.numbers == {run: [3] for run in RUNS}


async def test_a_filter_leaves_out_events_of_all_without_losing_the_place(bus: Bus, client: httpx.AsyncClient) -> None:
    for run in RUNS:
        await publish(bus, run, 0, 3, end=True)
    seen = Seen()
    async with client.stream("GET", URL + "&types=execution.*") as answer:
        async for frame in frames(answer):
            seen.take(frame)
    shown = [frame["event"] for frame in seen.frames if frame["id"] and frame["event"] != "stream.cursor"]
    assert shown == ["execution.completed"] * 3
    assert (await client.get(URL, headers=seen.headers())).status_code == 204


@pytest.mark.parametrize(
    ("query", "headers", "expected"),
    [
        ("", {}, (422, "invalid_request")),
        ("?execution=a&execution=a", {}, (400, "invalid_input")),
        ("?execution=a&execution=b/c", {}, (400, "invalid_execution_id")),
        ("?execution=a&execution=nobody", {}, (404, "execution_unknown")),
        ("?execution=a", {"Last-Event-ID": "1-1"}, (400, "invalid_cursor")),
        ("?execution=a", {"Last-Event-ID": "m00000000:1-1"}, (400, "invalid_cursor")),
        ("?" + "&".join(f"execution=r{n}" for n in range(65)), {}, (400, "invalid_input")),
    ],
)
async def test_a_request_that_makes_no_sense_is_told_why(
    bus: Bus, client: httpx.AsyncClient, query: str, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    await publish(bus, "a", 0, 1)
    answer = await client.get("/v1/stream" + query, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == expected
