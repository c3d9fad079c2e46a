"""Every wire says the same by the server's ``send`` alone, and a gateway that cannot do better says so."""

from __future__ import annotations

import logging
import re
from contextlib import aclosing

import httpx
import pytest
import websockets

from tailrace.bus import Bus
from tailrace.gateway.app import create_app
from tailrace.gateway.asgi import uvicorn_internals
from tailrace.gateway.asgi.stepping import SteppedSend
from tailrace.gateway.settings import read_settings
from tests.integration.gateway.live import live_app
from tests.patience import patient

pytestmark = pytest.mark.anyio

EVENTS = 300
_ID = re.compile(r'(?:^id: |"id":")(\d+-\d+)', re.MULTILINE)


async def bodies(url: str) -> dict[str, str]:
    """What each wire says of an execution that has ended."""
    told: dict[str, str] = {}
    async with httpx.AsyncClient(base_url=url, timeout=patient(30)) as client:
        for accept in ("text/event-stream", "application/x-ndjson"):
            told[accept] = (await client.get("/v1/executions/e/events", headers={"Accept": accept})).text
        told["multiplex"] = (await client.get("/v1/stream?execution=e")).text
    async with websockets.connect(f"{url.replace('http', 'ws', 1)}/v1/executions/e/ws") as socket:
        told["websocket"] = "".join([str(frame) async for frame in socket])
    return told


async def publish(bus: Bus) -> list[str]:
    async with aclosing(bus.publisher("e")) as publisher:
        for number in range(EVENTS):
            await publisher.emit("custom.count", {"number": number, "pad": "x" * 2000})
        await publisher.emit("execution.completed", {"result": EVENTS})
    return [f"{ms.decode()}" for ms, _ in await bus.commands.command("XRANGE", bus.keys.log("e"), "-", "+")]


async def test_every_wire_says_the_same_by_send_alone(bus: Bus) -> None:
    ids = await publish(bus)
    told = []
    for direct in (True, False):
        app = create_app(bus, read_settings(drain_seconds=0, direct_writes=direct))
        async with live_app(app) as url:
            assert (app.state.gateway.stepped is None) is direct
            told.append(await bodies(url))
    assert told[0] == told[1]
    for wire, body in told[1].items():
        if wire == "multiplex":
            assert body.count("event: custom.count") == EVENTS
        else:
            assert [found for found in _ID.findall(body) if found in set(ids)] == ids, wire


async def test_a_live_viewer_is_written_to_and_one_that_is_ended_goes_by_send_alone(bus: Bus) -> None:
    await bus.submit("document", execution_id="live")
    app = create_app(bus, read_settings(drain_seconds=0, direct_writes=False))
    async with (
        live_app(app) as url,
        httpx.AsyncClient(base_url=url, timeout=patient(30)) as client,
        client.stream("GET", "/v1/executions/live/events") as answer,
    ):
        lines = answer.aiter_lines()
        async for line in lines:
            if "stream.caught_up" in line:
                break
        (connection,) = app.state.gateway.presence.connections
        app.state.gateway.presence.connections.disconnect(connection.number)
        assert any('"disconnected"' in line for line in [each async for each in lines])


async def test_a_server_that_is_not_as_expected_is_written_to_by_send_and_this_is_told(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ids = await publish(bus)
    monkeypatch.setattr(uvicorn_internals.AsgiSink, "write", SteppedSend.write)
    app = create_app(bus, read_settings(drain_seconds=0))
    with caplog.at_level(logging.WARNING):
        async with live_app(app) as url, httpx.AsyncClient(base_url=url, timeout=patient(30)) as client:
            told = await bodies(url)
            ready = await client.get("/readyz")
            metrics = (await client.get("/metrics")).text
    assert "written to through send() alone" in caplog.text
    assert (ready.status_code, len(ready.json()["degraded"])) == (200, 1)
    assert "tailrace_direct_writes 0.0" in metrics
    assert _ID.findall(told["application/x-ndjson"])[-len(ids) :][0] in ids
