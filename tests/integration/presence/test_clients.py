"""Who watches, over all gateways: the counts are true, a killed gateway's viewers go, a connection can be ended."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tailrace.bus import Bus
from tests.e2e.sse_client import open_stream
from tests.e2e.waiting import eventually
from tests.integration.gateway.live import GatewayProcess
from tests.patience import patient, stretched

pytestmark = pytest.mark.anyio


async def begun(bus: Bus, run: str = "run") -> str:
    async with asyncio.timeout(patient(10)):
        publisher = bus.publisher(run)
        await publisher.append("custom.a", {})
        await publisher.aclose()
    return run


async def count(client: httpx.AsyncClient, run: str = "run") -> int:
    return int((await client.get(f"/v1/executions/{run}/subscribers")).json()["subscribers"])


async def listed(client: httpx.AsyncClient, **params: str) -> list[dict[str, Any]]:
    answer = await client.get("/v1/clients", params=params)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def test_viewers_of_one_gateway_are_known_at_once(bus: Bus, client: httpx.AsyncClient, gateway_url: str) -> None:
    await begun(bus)
    assert await count(client) == 0
    async with open_stream(gateway_url, "run") as stream:
        await stream.until("stream.caught_up")
        assert await count(client) == 1
        (item,) = await listed(client)
        assert (item["kind"], item["executions"], item["subject"]) == ("sse", ["run"], "anonymous")

    async def gone() -> bool:
        """the viewer that left is not counted"""
        return await count(client) == 0 and await listed(client) == []

    await eventually(gone)


@pytest.mark.parametrize("number", ["²", "٣", "9" * 30])
async def test_attack_60_digits_of_other_scripts_are_no_number_of_a_connection(
    bus: Bus, client: httpx.AsyncClient, gateway_url: str, number: str
) -> None:
    await begun(bus)
    async with open_stream(gateway_url, "run") as stream:
        await stream.until("stream.caught_up")
        (item,) = await listed(client)
        page = await client.get("/v1/clients", params={"after": f"{item['gateway']}:{number}"})
        assert (page.status_code, page.json()["code"]) == (400, "invalid_input")
        gone = await client.delete(f"/v1/clients/{item['gateway']}:{number}")
        assert (gone.status_code, gone.json()["code"]) == (404, "client_unknown")


async def test_a_socket_counts_for_each_execution_that_it_watches(
    bus: Bus, client: httpx.AsyncClient, gateway_url: str
) -> None:
    for run in ("a", "b"):
        await begun(bus, run)
    url = f"{gateway_url.replace('http', 'ws')}/v1/ws"
    async with connect(url, subprotocols=[Subprotocol("tailrace.v1.json")]) as socket:
        for number, run in enumerate(("a", "b")):
            await socket.send(json.dumps({"op": "subscribe", "id": number, "execution": run}))
        seen = 0
        while seen < 2:
            seen += sum(message["op"] == "caught_up" for message in json.loads(await socket.recv()))
        assert (await count(client, "a"), await count(client, "b")) == (1, 1)
        (item,) = await listed(client, execution="b")
        assert (item["kind"], sorted(item["executions"])) == ("websocket", ["a", "b"])
        assert await listed(client, execution="c") == []
        await socket.send(json.dumps({"op": "unsubscribe", "id": 9, "execution": "a"}))
        await socket.recv()
        assert (await count(client, "a"), await count(client, "b")) == (0, 1)


async def test_an_operator_ends_a_connection_which_is_told_and_may_come_back(
    bus: Bus, client: httpx.AsyncClient, gateway_url: str
) -> None:
    await begun(bus)
    async with open_stream(gateway_url, "run") as stream:
        await stream.until("stream.caught_up")
        (item,) = await listed(client)
        assert (await client.delete(f"/v1/clients/{item['id']}")).status_code == 202
        frames = await stream.rest()
    assert frames[-1].name == "stream.error"
    assert frames[-1].payload["code"] == "disconnected"
    assert (await client.delete(f"/v1/clients/{item['id']}")).json()["code"] == "client_unknown"


@pytest.mark.parametrize("client_id", ["x", "x:1", ":1", "nobody:99", "a%2Fb:1"])
async def test_a_connection_that_is_not_there_is_unknown(client: httpx.AsyncClient, client_id: str) -> None:
    assert (await client.delete(f"/v1/clients/{client_id}")).status_code == 404


async def test_pages_neither_repeat_nor_leave_out(bus: Bus, client: httpx.AsyncClient, gateway_url: str) -> None:
    await begun(bus)
    async with AsyncExitStack() as stack:
        for _ in range(5):
            stream = await stack.enter_async_context(open_stream(gateway_url, "run"))
            await stream.until("stream.caught_up")
        ids: list[str] = []
        after: dict[str, str] = {}
        while True:
            page = (await client.get("/v1/clients", params={"limit": "2", **after})).json()
            ids += [item["id"] for item in page["items"]]
            assert page["total"] == 5
            if page["next"] is None:
                break
            after = {"after": page["next"]}
    assert len(ids) == len(set(ids)) == 5
    assert (await client.get("/v1/clients", params={"after": "nonsense"})).json()["code"] == "invalid_input"


async def test_counts_are_of_all_gateways_and_right_within_fifteen_seconds_after_one_was_killed(
    bus: Bus, client: httpx.AsyncClient, gateway_url: str, server_url: str, prefix: str
) -> None:
    await begun(bus)
    async with AsyncExitStack() as stack:
        other = stack.enter_context(GatewayProcess(redis_url=server_url, prefix=prefix))
        url = await asyncio.to_thread(other.url)
        for each in (gateway_url, url, url, url):
            stream = await stack.enter_async_context(open_stream(each, "run"))
            await stream.until("stream.caught_up")

        async def all_counted() -> bool:
            """all four viewers are counted by both gateways"""
            async with httpx.AsyncClient(base_url=url) as elsewhere:
                return await count(client) == await count(elsewhere) == 4

        await eventually(all_counted)
        items = await listed(client)
        # Three of them are the other gateway's.
        [(its_name, three), (_, one)] = Counter(item["gateway"] for item in items).most_common()
        assert (three, one) == (3, 1)
        theirs = next(item for item in items if item["gateway"] == its_name)
        assert (await client.delete(f"/v1/clients/{theirs['id']}")).status_code == 202

        async def one_less() -> bool:
            """the connection on the other gateway was ended by an order from this one"""
            return await count(client) == 3

        await eventually(one_less)
        other.signal(signal.SIGKILL)
        killed = time.monotonic()

        async def only_ours() -> bool:
            """the viewers of the killed gateway are not counted any more"""
            return await count(client) == len(await listed(client)) == 1

        await eventually(only_ours, seconds=30)
        assert time.monotonic() - killed <= stretched(15)


async def test_what_is_written_is_written_again_after_a_flush_and_leaves_with_its_gateway(
    bus: Bus, server_url: str, prefix: str
) -> None:
    await begun(bus)
    with GatewayProcess(redis_url=server_url, prefix=prefix) as gateway:
        async with open_stream(gateway.url(), "run") as stream:
            await stream.until("stream.caught_up")

            async def keys() -> list[bytes]:
                return list(await bus.commands.command("KEYS", f"{prefix}:gw*"))

            async def written() -> bool:
                """the gateway has told of itself, and of its viewers"""
                return len(await keys()) == 3

            await eventually(written)
            await bus.commands.command("DEL", *await keys())
            await eventually(written)
        gateway.signal(signal.SIGTERM)
        assert (await asyncio.to_thread(gateway.wait))[0] == 0
        assert await keys() == []
