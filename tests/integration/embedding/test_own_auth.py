"""An application's own way to say who asks (``authenticate``), and what for (``authorize``)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
import pytest
import websockets
from fastapi import FastAPI, HTTPException
from starlette.requests import HTTPConnection

from tailrace import Bus, BusSettings, Gateway, GatewaySettings, Principal, State, open_bus
from tests.integration.embedding.served import serving
from tests.patience import patient

pytestmark = pytest.mark.anyio

ANN = {"X-User": "ann"}
BOB = {"X-User": "bob"}


async def principal_of(connection: HTTPConnection) -> Principal | None:
    user = connection.headers.get("x-user") or connection.cookies.get("user")
    if user == "banned":
        raise HTTPException(403, "not you")
    return None if user is None else Principal(user, None, frozenset({"read", "control", "publish", "submit"}))


def owns(principal: Principal, state: State, action: str) -> bool:
    del action
    return state.execution_id.startswith(principal.subject)


@pytest.fixture
async def bus(server_url: str, prefix: str) -> AsyncGenerator[Bus, None]:
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as opened:
        yield opened


def application(gateway: Gateway) -> FastAPI:
    app = FastAPI()
    app.include_router(gateway.router)
    return app


def gateway_of(bus: Bus, **settings: Any) -> Gateway:
    given = GatewaySettings(drain_seconds=0, **settings)
    return Gateway(bus, authenticate=principal_of, authorize=owns, settings=given)


@asynccontextmanager
async def called(app: FastAPI) -> AsyncGenerator[httpx.AsyncClient, None]:
    # From another machine: whoever is known may come from anywhere.
    transport = httpx.ASGITransport(app=app, client=("192.0.2.7", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://app.example", timeout=patient(30)) as asking:
        yield asking


async def publish(bus: Bus, execution_id: str) -> None:
    async with aclosing(bus.publisher(execution_id)) as publisher:
        await publisher.emit("custom.count", 1)
        await publisher.emit("execution.completed", {"result": 1})


async def test_whom_the_application_knows_is_let_in_and_others_are_not(bus: Bus) -> None:
    await publish(bus, "ann-1")
    gateway = gateway_of(bus)
    async with gateway.running(), called(application(gateway)) as client:
        known = await client.get("/v1/executions/ann-1", headers=ANN)
        unknown = await client.get("/v1/executions/ann-1")
        banned = await client.get("/v1/executions/ann-1", headers={"X-User": "banned"})
    assert known.json()["status"] == "completed"
    assert (unknown.status_code, unknown.json()["code"]) == (401, "unauthenticated")
    assert (banned.status_code, banned.json()["detail"]) == (403, "not you")


async def test_a_credential_of_the_settings_is_as_good(bus: Bus) -> None:
    await publish(bus, "ann-1")
    gateway = gateway_of(bus, jwt_hs256_keys=["x" * 40])
    async with gateway.running(), called(application(gateway)) as client:
        wrong = await client.get("/v1/executions/ann-1", headers={"Authorization": "Bearer nonsense"})
        known = await client.get("/v1/executions/ann-1", headers=ANN)
    assert (wrong.status_code, wrong.json()["code"]) == (401, "invalid_token")
    assert known.status_code == 200


async def test_what_the_application_does_not_allow_is_as_if_it_were_not_there(bus: Bus) -> None:
    for user in ("ann", "bob"):
        async with bus.execution(f"{user}-1") as execution:
            await execution.emit("custom.count", 1)
        await bus.submit("document", {}, execution_id=f"{user}-2")
    gateway = gateway_of(bus)
    async with gateway.running(), called(application(gateway)) as client:
        for path in ("", "/events", "/events?after=0", "/subscribers", "/requests"):
            mine = await client.get(f"/v1/executions/ann-1{path}", headers=ANN)
            others = await client.get(f"/v1/executions/ann-1{path}", headers=BOB)
            none = await client.get(f"/v1/executions/ann-none{path}", headers=BOB)
            assert mine.status_code == 200, path
            assert (others.status_code, others.json()["code"]) == (404, "execution_unknown"), path
            assert others.json()["detail"].replace("ann-1", "ann-none") == none.json()["detail"]
        assert (await client.post("/v1/executions/ann-2/cancel", headers=BOB)).status_code == 404
        event = {"type": "custom.x", "data": 1}
        assert (await client.post("/v1/executions/ann-3/events", headers=BOB, json=event)).status_code == 404
        assert (await client.post("/v1/executions/ann-3/events", headers=ANN, json=event)).is_success
        listed = (await client.get("/v1/executions", headers=ANN)).json()["items"]
        assert {item["execution_id"] for item in listed} == {"ann-1", "ann-2", "ann-3"}
        stats = (await client.get("/v1/stats", headers=BOB)).json()["executions"]
        assert (stats["total"], stats["by_status"]["queued"]) == (1, 1)
        assert (await client.get("/v1/stream?execution=bob-1&execution=ann-1", headers=BOB)).status_code == 404
        assert (await client.post("/v1/executions/ann-2/cancel", headers=ANN)).is_success


async def test_a_viewer_of_the_activity_sees_what_the_application_allows(bus: Bus) -> None:
    gateway = gateway_of(bus)
    async with (
        gateway.running(),
        serving(application(gateway)) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=patient(30)) as client,
        client.stream("GET", "/v1/activity", headers=ANN) as activity,
    ):
        lines = activity.aiter_lines()
        async for line in lines:
            if "stream.caught_up" in line:
                break
        for user in ("bob", "ann"):
            await bus.submit("document", {}, execution_id=f"{user}-1")
        async for line in lines:
            if line.startswith("data:") and "execution.queued" in line:
                break
    assert '"ann-1"' in line


async def test_a_socket_is_for_whom_the_application_knows_and_for_what_it_allows(bus: Bus) -> None:
    await publish(bus, "ann-1")
    gateway = gateway_of(bus)
    async with gateway.running(), serving(application(gateway)) as address:
        url = f"ws://{address}/v1/executions/ann-1/ws"
        async with websockets.connect(url, additional_headers=ANN) as socket:
            assert "custom.count" in "".join([str(message) async for message in socket])
        async with websockets.connect(url, additional_headers=BOB) as socket:
            assert "execution_unknown" in str(await socket.recv())
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(url)
        assert refused.value.response.status_code == 401
        elsewhere = {"Cookie": "user=ann", "Origin": "https://evil.example"}
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(url, additional_headers=elsewhere)
        assert refused.value.response.status_code == 403
        here = {"Cookie": "user=ann", "Origin": f"http://{address}"}
        async with websockets.connect(url, additional_headers=here) as socket:
            assert '"subscribed"' in str(await socket.recv())


async def test_a_strangers_page_cannot_use_the_cookie_of_the_application(bus: Bus) -> None:
    await bus.submit("document", {}, execution_id="ann-1")
    gateway = gateway_of(bus, allowed_origins=["https://front.example"])
    cookie = {"Cookie": "user=ann"}
    async with gateway.running(), called(application(gateway)) as client:
        cancel = "/v1/executions/ann-1/cancel"
        evil = await client.post(cancel, headers={**cookie, "Origin": "https://evil.example"})
        assert (evil.status_code, evil.json()["code"]) == (403, "origin_not_allowed")
        front = await client.post(cancel, headers={**cookie, "Origin": "https://front.example"})
        assert front.is_success
