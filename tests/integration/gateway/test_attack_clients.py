"""Clients that others wrote read a stream as it comes, with nothing made for this gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, aconnect_sse

from tailrace.bus import Bus
from tailrace.gateway.settings import read_settings
from tests.integration.gateway.live import live_gateway
from tests.patience import patient

pytestmark = pytest.mark.anyio

HEARTBEAT_SECONDS = 0.1


@asynccontextmanager
async def client_of(bus: Bus) -> AsyncGenerator[httpx.AsyncClient, None]:
    settings = read_settings(drain_seconds=0, heartbeat_seconds=HEARTBEAT_SECONDS)
    async with live_gateway(bus, settings) as url, httpx.AsyncClient(base_url=url, timeout=patient(10)) as client:
        yield client


async def test_attack_34_every_event_that_a_plain_client_gives_its_user_is_json(bus: Bus) -> None:
    """httpx-sse gives out each block, also one without data, on which ``json.loads`` raises."""

    async def events_of(client: httpx.AsyncClient, url: str, ready: asyncio.Semaphore) -> list[ServerSentEvent]:
        got: list[ServerSentEvent] = []
        async with aconnect_sse(client, "GET", url) as source:
            async for event in source.aiter_sse():
                got.append(event)
                name = event.json().get("type", event.event)
                if name == "stream.caught_up":
                    ready.release()
                if name == "custom.shown":
                    break
        return got

    paths = ("/v1/executions/x/events", "/v1/stream")
    queries = ("types=custom.shown", "types=custom.shown&events=message", "from=tail")
    urls = [f"{path}?execution=x&{query}" for path in paths for query in queries]
    ready = asyncio.Semaphore(0)
    async with client_of(bus) as client, bus.execution("x") as execution, asyncio.TaskGroup() as group:
        watching = [group.create_task(events_of(client, url, ready)) for url in urls]
        for _ in urls:
            await ready.acquire()
        await execution.append("custom.hidden")
        # Heartbeats come meanwhile, and the cursor of the filtered ones.
        await asyncio.sleep(1.5)
        await execution.append("custom.shown")
    for each in watching:
        assert each.result()[0].retry is not None, "the first block says how soon to come back"


async def test_attack_34_a_filter_that_leaves_much_out_tells_its_cursor_now_and_then(bus: Bus) -> None:
    """Each entry that was left out had been told by an id of its own."""
    cursors: list[str] = []
    last = ""
    async with (
        client_of(bus) as client,
        bus.execution("x") as execution,
        aconnect_sse(client, "GET", "/v1/executions/x/events?types=custom.shown") as source,
    ):
        async for event in source.aiter_sse():
            match event.event:
                case "stream.caught_up":
                    cursors.clear()
                    for _ in range(250):
                        last = str(await execution.append("custom.hidden"))
                case "stream.cursor":
                    cursors.append(event.id)
                    if event.id == last:
                        break
    # Two for 250 entries, one for each second that they took, and one for the rest.
    assert 3 <= len(cursors) <= 8


def lines_broken_by(text: str) -> set[str]:
    return set(text) & {"\u0085", "\u2028", "\u2029"}


BREAKING = "a\u0085b\u2028c\u2029d"


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
async def test_attack_35_a_reader_of_lines_gets_each_event_whatever_its_text(bus: Bus, accept: str) -> None:
    """``iter_lines`` and ``splitlines`` end a line at U+0085, U+2028 and U+2029, which JSON leaves as they are."""
    raw = json.dumps({"text": BREAKING}, ensure_ascii=False).encode()
    fields = [b"t", b"my.event", b"d", raw, b"m", raw]
    got: list[dict[str, Any]] = []
    async with client_of(bus) as client:
        async with bus.execution("x") as execution:
            await execution.append("custom.text", {"text": BREAKING})
            await bus.commands.command("XADD", bus.keys.log("x"), "*", *fields)
        # Once as pages give it, and once as it stands at the end of all.
        async with client.stream("GET", "/v1/executions/x/events", headers={"Accept": accept}) as answer:
            async for line in answer.aiter_lines():
                body = line.removeprefix("data: ")
                if body.startswith("{"):
                    got.append(json.loads(body))
        page = (await client.get("/v1/executions/x/events?limit=10")).text
    assert [event["data"]["text"] for event in got if event.get("type") in {"custom.text", "my.event"}] == [
        BREAKING
    ] * 2
    assert not lines_broken_by(page)


async def test_attack_35_live_events_are_one_line_each_too(bus: Bus) -> None:
    async with (
        client_of(bus) as client,
        bus.execution("x") as execution,
        client.stream("GET", "/v1/executions/x/events") as answer,
    ):
        async for line in answer.aiter_lines():
            if line == "event: stream.caught_up":
                await execution.append("custom.text", {"text": BREAKING})
            if line.startswith('data: {"type":"custom.text"'):
                assert json.loads(line.removeprefix("data: "))["data"] == {"text": BREAKING}
                break


@pytest.mark.parametrize("name", ["lastEventId", "last_event_id"])
async def test_attack_36_the_last_id_is_taken_from_the_query_after_the_header_and_before_from(
    bus: Bus, name: str
) -> None:
    async with client_of(bus) as client:
        async with bus.execution("x") as execution:
            first, second, third = [str(await execution.append("custom.n")) for _ in range(3)]

        async def begins_at(url: str, **headers: str) -> str:
            async with aconnect_sse(client, "GET", url, headers=headers) as source:
                async for event in source.aiter_sse():
                    return str(event.json()["cursor"])
            raise AssertionError("no event came")

        url = f"/v1/executions/x/events?{name}={second}&from={first}"
        assert await begins_at(url) == second
        assert await begins_at(url, **{"Last-Event-ID": third}) == third
        assert await begins_at(f"/v1/executions/x/events?{name}=&from={first}") == first
        refused = await client.get(f"/v1/executions/x/events?{name}=nonsense")
        assert (refused.status_code, refused.json()["field"]) == (400, name)


async def test_attack_36_several_executions_are_resumed_by_the_query_too(bus: Bus) -> None:
    async with client_of(bus) as client:
        async with bus.execution("x") as execution:
            await execution.append("custom.n")
        async with client.stream("GET", "/v1/stream?execution=x") as answer:
            ids = [line[4:] async for line in answer.aiter_lines() if line.startswith("id: ")]
        again = await client.get("/v1/stream", params={"execution": "x", "lastEventId": ids[-1], "from": "tail"})
        assert again.status_code == 204


@pytest.mark.parametrize("start", ["", "0", "0-0", "-1"])
async def test_attack_37_one_and_several_executions_take_the_same_spellings_of_the_start(bus: Bus, start: str) -> None:
    async with client_of(bus) as client:
        async with bus.execution("x"):
            pass
        for path in ("/v1/executions/x/events", "/v1/stream?execution=x"):
            answer = await client.get(path, headers={"Last-Event-ID": start, "Accept": "text/event-stream"})
            assert (answer.status_code, "execution.completed" in answer.text) == (200, True)
