"""Viewers that come before their execution: the stream stays open until it begins."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx
import pytest
import websockets
from fastapi import FastAPI, Request, WebSocket

from tailrace import Bus, Frame, Gateway, GatewaySettings, ShownEntry, SocketWire, frame
from tests.integration.embedding.served import serving
from tests.integration.gateway.live import GatewayProcess, live_gateway
from tests.integration.workers.watching import until
from tests.integration.ws.client import connected
from tests.patience import patient

pytestmark = pytest.mark.anyio

EVENTS = "/v1/executions/late/events"


@pytest.fixture
async def live(bus: Bus) -> AsyncGenerator[httpx.AsyncClient, None]:
    async with live_gateway(bus) as gateway, httpx.AsyncClient(base_url=gateway, timeout=patient(30)) as client:
        yield client


async def publish(bus: Bus, execution_id: str, count: int) -> None:
    async with aclosing(bus.publisher(execution_id)) as publisher:
        for number in range(count):
            await publisher.emit("custom.count", {"number": number})
        await publisher.emit("execution.completed", {"result": count})


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
async def test_attack_38_viewers_that_come_first_see_all_of_it_from_its_beginning(
    bus: Bus, live: httpx.AsyncClient, accept: str
) -> None:
    async def watch() -> str:
        return (await live.get(f"{EVENTS}?wait_for_start=60", headers={"Accept": accept})).text

    watching = [asyncio.create_task(watch()) for _ in range(20)]
    async with live.stream("GET", f"{EVENTS}?wait_for_start=60", headers={"Accept": accept}) as first:
        # It is open, and says so, before there is anything.
        assert first.status_code == 200
        parts = first.aiter_bytes()
        assert await anext(parts)
        await publish(bus, "late", 50)
        body = b"".join([part async for part in parts]).decode()
    for text in [body, *await asyncio.gather(*watching)]:
        data = [line.removeprefix("data: ") for line in text.splitlines() if '"custom.count"' in line and "{" in line]
        assert [json.loads(each)["data"]["number"] for each in data] == list(range(50))
        assert text.count("stream.end") >= 1


async def test_one_that_does_not_begin_in_time_is_told_and_without_waiting_it_is_a_404(
    bus: Bus, live: httpx.AsyncClient
) -> None:
    answer = await live.get(f"{EVENTS}?wait_for_start=0.2")
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
    assert '"code":"execution_unknown"' in answer.text
    assert "has not begun within 0.2 s" in answer.text
    assert (await live.get(EVENTS, headers={"Accept": "text/event-stream"})).status_code == 404
    assert (await live.get(f"{EVENTS}?wait_for_start=301")).status_code == 422
    assert await bus.log.exists("late") is False


async def test_many_who_wait_cost_redis_one_watch(bus: Bus, live: httpx.AsyncClient) -> None:
    async def commands() -> int:
        info = str(await bus.commands.command("INFO", "commandstats"))
        return sum(int(part.partition("calls=")[2].partition(",")[0]) for part in info.split("cmdstat_")[1:])

    waiting = [asyncio.create_task(live.get(f"{EVENTS}?wait_for_start=60")) for _ in range(50)]
    while (await live.get("/v1/stats")).json()["gateway"]["viewers"] < 50:
        assert not any(task.done() for task in waiting)
    before = await commands()
    await asyncio.sleep(1)
    # What a gateway does anyway, and nothing that grows with those who wait.
    assert await commands() - before < 50
    await publish(bus, "late", 1)
    assert all("custom.count" in answer.text for answer in await asyncio.gather(*waiting))


async def test_who_may_not_see_it_waits_as_if_it_had_not_begun(bus: Bus) -> None:
    gateway = Gateway(bus, settings=GatewaySettings(drain_seconds=0))
    app = FastAPI()

    @app.get("/{allowed}")
    async def late(allowed: bool, request: Request) -> Any:
        return gateway.stream(request, "late", wait_for_start=3, allow=lambda _: allowed)

    async with gateway.running(), serving(app) as address, httpx.AsyncClient(timeout=patient(30)) as client:
        refused = asyncio.create_task(client.get(f"http://{address}/false"))
        allowed = asyncio.create_task(client.get(f"http://{address}/true"))
        await until(lambda: gateway.context.hub.viewers == 2)
        await publish(bus, "late", 3)
        assert (await allowed).text.count("event: custom.count") == 3
        assert not refused.done()
        text = (await refused).text
    assert "custom.count" not in text
    assert "has not begun within 3 s" in text


async def test_a_socket_that_comes_first_is_open_and_gets_all_of_it(bus: Bus) -> None:
    async with live_gateway(bus) as gateway:
        url = f"{gateway.replace('http', 'ws', 1)}/v1/executions/late/ws?wait_for_start=60"
        async with connected(url) as early, connected(url) as leaving:
            assert (await early.ask("ping"))["op"] == "pong"
            assert (await leaving.ask("ping"))["op"] == "pong"
            await leaving.connection.close()
            await publish(bus, "late", 50)
            await early.until("end")
            assert [said["op"] for said in early.said if said["op"] in {"subscribed", "end"}] == ["subscribed", "end"]
            assert [said["data"]["number"] for said in early.events("late") if said["type"] == "custom.count"] == list(
                range(50)
            )
            assert await early.closed() == 1000


@pytest.mark.parametrize(("wait", "code"), [("0.2", "execution_unknown"), ("301", "invalid_request"), ("x", None)])
async def test_a_socket_whose_execution_does_not_begin_in_time_is_told(bus: Bus, wait: str, code: str | None) -> None:
    async with live_gateway(bus) as gateway:
        url = f"{gateway.replace('http', 'ws', 1)}/v1/executions/late/ws?wait_for_start={wait}"
        async with connected(url) as early:
            assert await early.closed() == (4404 if code == "execution_unknown" else 4400)
    assert early.said[-1]["op"] == "error"
    if code == "execution_unknown":
        assert early.said[-1]["code"] == code
        assert "has not begun within 0.2 s" in early.said[-1]["detail"]
    else:
        assert early.said[-1]["field"] == "wait_for_start"


async def test_a_socket_that_waits_is_sent_on_when_its_gateway_stops(bus: Bus, server_url: str, prefix: str) -> None:
    with GatewayProcess(redis_url=server_url, prefix=prefix, drain_seconds="0") as process:
        url = f"{process.url().replace('http', 'ws', 1)}/v1/executions/late/ws?wait_for_start=60"
        async with connected(url) as early:
            assert (await early.ask("ping"))["op"] == "pong"
            process.signal(15)
            assert await early.closed() == 1012
        assert process.wait()[0] == 0


class MarkWire(SocketWire):
    def show(self, entry: ShownEntry) -> Frame:
        return frame({"kind": entry.type})


async def test_a_socket_of_ones_own_waits_too(bus: Bus) -> None:
    gateway = Gateway(bus)
    app = FastAPI(lifespan=gateway.lifespan)

    @app.websocket("/marks/{run}")
    async def marks(socket: WebSocket, run: str) -> None:
        await gateway.socket(socket, run, wire=MarkWire(), wait_for_start=60 if run == "late" else 0.1)

    async with serving(app) as address:
        async with websockets.connect(f"ws://{address}/marks/late") as early:
            await publish(bus, "late", 3)
            kinds = [json.loads(message)["kind"] async for message in early]
        assert kinds == ["custom.count"] * 3 + ["execution.completed"]
        async with websockets.connect(f"ws://{address}/marks/never") as early:
            told = json.loads(await early.recv())
            await early.wait_closed()
        assert (told["code"], early.close_code) == ("execution_unknown", 4404)
