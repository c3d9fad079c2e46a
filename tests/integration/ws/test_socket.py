"""The protocol over a real server, as python-websockets sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import websockets

from tailrace.bus import Bus
from tailrace.gateway.app import create_app
from tailrace.gateway.settings import read_settings
from tests.integration.gateway.live import GatewayProcess, live_app, live_gateway
from tests.integration.ws.client import JSON, MSGPACK, connected, publish
from tests.patience import patient

pytestmark = pytest.mark.anyio

SUBPROTOCOLS = pytest.mark.parametrize("subprotocol", [JSON, MSGPACK, None])


@pytest.mark.usefixtures("both_ways")
@SUBPROTOCOLS
async def test_a_subscription_replays_then_follows_live_then_ends(
    bus: Bus, gateway_url: str, subprotocol: str | None
) -> None:
    await publish(bus, "a", 300)
    async with connected(f"{gateway_url}/v1/ws", subprotocol) as client:
        assert client.connection.subprotocol == subprotocol
        answer = await client.ask("subscribe", execution="a")
        assert (answer["op"], answer["cursor"], answer["status"]) == ("subscribed", "0-0", "unknown")
        caught_up = await client.until("caught_up")
        assert client.counts("a") == list(range(300))
        assert caught_up["cursor"] == answer["head"] == client.events("a")[-1]["id"]
        await publish(bus, "a", 10, first=300, end=True)
        end = await client.until("end")
        assert client.counts("a") == list(range(310))
        assert (end["status"], end["cursor"]) == ("completed", client.events("a")[-1]["id"])
        assert (await client.ask("ping"))["op"] == "pong"


@pytest.mark.usefixtures("both_ways")
@SUBPROTOCOLS
async def test_a_client_that_comes_back_gets_exactly_what_it_has_not_seen(
    bus: Bus, gateway_url: str, subprotocol: str | None
) -> None:
    await publish(bus, "a", 40, end=True)
    got: list[int] = []
    cursor = "0"
    for take in (1, 17, 5):
        async with connected(f"{gateway_url}/v1/ws", subprotocol) as client:
            await client.ask("subscribe", execution="a", **{"from": cursor})
            await client.until("event")
            await client.until("end")
            seen = client.events("a")[:take]
            got += [event["data"]["n"] for event in seen]
            cursor = seen[-1]["id"]
    assert got == list(range(23))


@pytest.mark.usefixtures("both_ways")
async def test_many_executions_over_one_socket_each_from_its_own_cursor(bus: Bus, gateway_url: str) -> None:
    names = [f"e{number}" for number in range(200)]
    for name in names:
        await publish(bus, name, 3)
    async with connected(f"{gateway_url}/v1/ws") as client:
        for name in names:
            assert (await client.ask("subscribe", execution=name, **{"from": "tail"}))["op"] == "subscribed"
        refused = await client.ask("subscribe", execution="another")
        assert (refused["code"], refused["field"]) == ("too_many_subscriptions", "execution")
        for name in names:
            await publish(bus, name, 2, first=3, end=True)
        for _ in names:
            await client.until("end")
        assert all(client.counts(name) == [3, 4] for name in names)


@pytest.mark.usefixtures("both_ways")
async def test_after_unsubscribing_nothing_of_it_follows_and_the_others_go_on(bus: Bus, gateway_url: str) -> None:
    for name in ("a", "b"):
        await publish(bus, name, 1)
    async with connected(f"{gateway_url}/v1/ws") as client:
        for name in ("a", "b"):
            await client.ask("subscribe", execution=name)
        publishing = asyncio.create_task(publish(bus, "a", 2000, first=1))
        await client.until(lambda said: said["op"] == "event" and said["execution"] == "a" and said["data"]["n"] > 50)
        answer = await client.ask("unsubscribe", execution="a")
        assert answer["op"] == "unsubscribed"
        after = len(client.said)
        at = client.said.index(answer)
        await publishing
        await publish(bus, "b", 1, first=1, end=True)
        await client.until("end")
        assert client.counts("b") == [0, 1]
        assert not [said for said in client.said[at + 1 :] if said.get("execution") == "a"]
        assert after <= len(client.said)
        counts = client.counts("a")
        assert counts == list(range(len(counts)))
        assert (await client.ask("unsubscribe", execution="a"))["code"] == "not_subscribed"
        again = await client.ask("subscribe", execution="a", **{"from": client.events("a")[-1]["id"]})
        assert again["op"] == "subscribed"
        await client.until("caught_up")
        assert client.counts("a") == list(range(2001))


@pytest.mark.usefixtures("both_ways")
async def test_a_filter_leaves_events_out_and_still_moves_the_cursor(bus: Bus, gateway_url: str) -> None:
    await publish(bus, "a", 9)
    async with connected(f"{gateway_url}/v1/ws") as client:
        await client.ask("subscribe", execution="a", types=["custom.*"], step="step1")
        caught_up = await client.until("caught_up")
        assert client.counts("a") == [1, 3, 5, 7]
        (moved,) = [said for said in client.said if said["op"] == "cursor"]
        assert moved["id"] == caught_up["cursor"]


@pytest.mark.usefixtures("both_ways")
async def test_the_terminal_cursor_is_answered_with_the_end_at_once(bus: Bus, gateway_url: str) -> None:
    await publish(bus, "a", 2, end=True)
    async with connected(f"{gateway_url}/v1/ws") as client:
        await client.ask("subscribe", execution="a")
        last = (await client.until("end"))["cursor"]
        del client.said[:]
        client._read = 0
        await client.ask("subscribe", execution="a", **{"from": last})
        assert (await client.until("end"))["cursor"] == last
        assert [said["op"] for said in client.said] == ["subscribed", "end"]


@pytest.mark.usefixtures("both_ways")
async def test_loss_is_told_before_what_follows_it(bus: Bus, gateway_url: str) -> None:
    await publish(bus, "a", 30)
    async with connected(f"{gateway_url}/v1/ws") as client:
        await client.ask("subscribe", execution="a")
        await client.until("caught_up")
        seen = client.events("a")[4]["id"]
    await bus.commands.command("XTRIM", bus.keys.log("a"), "MAXLEN", 10)
    async with connected(f"{gateway_url}/v1/ws", MSGPACK) as client:
        await client.ask("subscribe", execution="a", **{"from": seen})
        await client.until("caught_up")
        assert [said["op"] for said in client.said][:3] == ["subscribed", "gap", "event"]
        gap = client.said[1]
        assert (gap["execution"], gap["requested"], gap["reason"]) == ("a", seen, "trimmed")
        assert client.counts("a") == list(range(20, 30))


@pytest.mark.usefixtures("both_ways")
async def test_coalesced_events_come_together(bus: Bus, gateway_url: str) -> None:
    await publish(bus, "a", 1)
    async with connected(f"{gateway_url}/v1/ws") as client:
        await client.ask("subscribe", execution="a", coalesce_ms=200)
        await client.until("caught_up")
        for number in range(1, 6):
            await publish(bus, "a", 1, first=number)
        frame = await asyncio.wait_for(client.connection.recv(decode=False), patient(5))
        assert frame.count(b'"op":"event"') == 5


@pytest.mark.usefixtures("both_ways")
@SUBPROTOCOLS
async def test_a_socket_for_one_execution_is_subscribed_from_the_start_and_closes_with_it(
    bus: Bus, gateway_url: str, subprotocol: str | None
) -> None:
    await publish(bus, "a", 5)
    async with connected(f"{gateway_url}/v1/executions/a/ws?types=custom.*&step=step0", subprotocol) as client:
        assert (await client.until("subscribed"))["id"] is None
        await client.until("caught_up")
        assert (await client.ask("ping"))["op"] == "pong"
        for op in ("subscribe", "unsubscribe"):
            assert (await client.ask(op, execution="a"))["code"] == "one_execution_only"
        await publish(bus, "a", 2, first=5, end=True)
        await client.until("end")
        assert client.counts("a") == [0, 2, 4, 6]
        assert await client.closed() == 1000
        last = client.events("a")[-1]["id"]
    async with connected(f"{gateway_url}/v1/executions/a/ws?from={last}", subprotocol) as client:
        assert await client.closed() == 1000
        assert [said["op"] for said in client.said] == ["subscribed", "end"]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("nobody/ws", ("execution_unknown", None, 4404)),
        ("-/ws", ("invalid_execution_id", "execution", 4400)),
        ("a%0ab/ws", ("invalid_execution_id", "execution", 4400)),
        ("a/ws?from=yesterday", ("invalid_cursor", "from", 4400)),
        ("a/ws?types=A", ("invalid_input", "types", 4400)),
        ("a/ws?step=%00", ("invalid_event", "step", 4400)),
        ("a/ws?coalesce_ms=-1", ("invalid_input", "coalesce_ms", 4400)),
    ],
)
async def test_a_url_that_cannot_be_used_is_told_and_closed(
    bus: Bus, gateway_url: str, path: str, told: tuple[str, str | None, int]
) -> None:
    await publish(bus, "a", 1)
    async with connected(f"{gateway_url}/v1/executions/{path}") as client:
        close_code = await client.closed()
        (error,) = client.said
        assert (error["code"], error.get("field"), close_code) == told


@pytest.mark.parametrize(
    ("members", "code", "field"),
    [
        ({"execution": "nobody"}, "execution_unknown", None),
        ({"execution": "../a"}, "invalid_execution_id", "execution"),
        ({"execution": "x" * 200}, "invalid_execution_id", "execution"),
        ({"execution": "a", "from": "1-1\n"}, "invalid_cursor", "from"),
        ({"execution": "a", "types": ["a", "*"]}, "invalid_input", "types"),
        ({"execution": "a", "step": ""}, "invalid_event", "step"),
    ],
)
async def test_a_subscription_that_cannot_be_is_an_error_and_the_socket_lives(
    bus: Bus, gateway_url: str, members: dict[str, Any], code: str, field: str | None
) -> None:
    await publish(bus, "a", 1)
    async with connected(f"{gateway_url}/v1/ws") as client:
        error = await client.ask("subscribe", **members)
        assert (error["code"], error.get("field")) == (code, field)
        assert (await client.ask("subscribe", execution="a"))["op"] == "subscribed"
        assert (await client.ask("subscribe", execution="a"))["code"] == "already_subscribed"


async def test_a_draining_gateway_sends_its_sockets_away_to_resume_elsewhere(
    bus: Bus, server_url: str, prefix: str
) -> None:
    for name in ("a", "b"):
        await publish(bus, name, 3)
    with GatewayProcess(redis_url=server_url, prefix=prefix) as process:
        url = process.url().replace("http", "ws", 1)
        async with connected(f"{url}/v1/ws") as client, connected(f"{url}/v1/ws") as idle:
            for name in ("a", "b"):
                await client.ask("subscribe", execution=name)
                await client.until("caught_up")
            assert (await idle.ask("ping"))["op"] == "pong"
            process.signal(15)
            assert await client.closed() == 1012
            assert await idle.closed() == 1012
            assert [said["op"] for said in client.said].count("reconnect") == 1
        code, _ = process.wait()
        assert code == 0
    async with live_gateway(bus) as other, connected(f"{other.replace('http', 'ws', 1)}/v1/ws") as client_again:
        cursor = client.events("a")[-1]["id"]
        await publish(bus, "a", 2, first=3, end=True)
        await client_again.ask("subscribe", execution="a", **{"from": cursor})
        await client_again.until("end")
        assert client_again.counts("a") == [3, 4]


@pytest.mark.parametrize(("setting", "compressed"), [("true", True), ("false", False)])
async def test_sockets_are_compressed_only_where_the_operator_asks_for_it(
    bus: Bus, server_url: str, prefix: str, setting: str, *, compressed: bool
) -> None:
    await publish(bus, "a", 200, pad=1000)
    with GatewayProcess(redis_url=server_url, prefix=prefix, ws_deflate=setting) as process:
        url = process.url().replace("http", "ws", 1)
        sizes = {}
        for compress in (False, True):
            async with connected(f"{url}/v1/ws", compression="deflate") as client:
                assert bool(client.connection.protocol.extensions) is compressed
                received = count_received(client.connection)
                await client.ask("subscribe", execution="a", compress=compress)
                await client.until("caught_up")
                await publish(bus, "a", 5, first=200 + 5 * compress)
                await client.until(is_count("a", 204 + 5 * compress))
                assert client.counts("a") == list(range(205 + 5 * compress))
                sizes[compress] = received()
    # 200 events of a kilobyte of one letter.
    assert sizes[False] > 200_000
    assert sizes[True] < 20_000 if compressed else sizes[True] > 200_000


async def test_subscriptions_of_one_socket_are_compressed_each_as_it_was_asked_for(
    bus: Bus, server_url: str, prefix: str
) -> None:
    with GatewayProcess(redis_url=server_url, prefix=prefix, ws_deflate="true") as process:
        url = process.url().replace("http", "ws", 1)
        async with connected(f"{url}/v1/ws", compression="deflate") as client:
            for name in ("plain", "small"):
                await publish(bus, name, 1)
                await client.ask("subscribe", execution=name, compress=name == "small")
                await client.until("caught_up")
            received = count_received(client.connection)
            sizes = {}
            # In turn, so that what is compressed follows what is not, and the other way round.
            for number in range(1, 21):
                for name in ("plain", "small"):
                    before = received()
                    await publish(bus, name, 1, first=number, pad=5000)
                    await client.until(is_count(name, number))
                    sizes[name] = received() - before
            for name in ("plain", "small"):
                await publish(bus, name, 0, end=True)
                await client.until("end")
                assert client.counts(name) == list(range(21))
        assert sizes["plain"] > 5000
        assert sizes["small"] < 500
        async with connected(f"{url}/v1/executions/plain/ws?compress=perhaps") as client:
            assert await client.closed() == 4400


def is_count(execution_id: str, number: int) -> Callable[[dict[str, Any]], bool]:
    return lambda said: said["op"] == "event" and (said["execution"], said["data"].get("n")) == (execution_id, number)


def count_received(connection: websockets.ClientConnection) -> Callable[[], int]:
    """Bytes as they come over the wire, from now on."""
    total = 0
    take = connection.data_received

    def counted(data: bytes) -> None:
        nonlocal total
        total += len(data)
        take(data)

    connection.data_received = counted  # type: ignore[method-assign]
    return lambda: total


@pytest.mark.usefixtures("both_ways")
async def test_viewers_leave_the_hub_with_their_socket(bus: Bus) -> None:
    for name in ("a", "b"):
        await publish(bus, name, 1)
    app = create_app(bus, read_settings(drain_seconds=0))
    async with live_app(app) as url:
        hub = app.state.gateway.hub
        async with connected(f"{url.replace('http', 'ws', 1)}/v1/ws") as client:
            for name in ("a", "b"):
                await client.ask("subscribe", execution=name)
                await client.until("caught_up")
            assert hub.viewers == 2
            client.connection.transport.abort()
        async with asyncio.timeout(patient(5)):
            while hub.viewers:  # noqa: ASYNC110 - the hub tells nobody
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://localhost.evil.example"])
@pytest.mark.parametrize("path", ["/v1/ws", "/v1/executions/a/ws"])
async def test_pages_of_strangers_may_open_no_socket(gateway_url: str, origin: str, path: str) -> None:
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with connected(gateway_url + path, additional_headers={"Origin": origin}):
            pass
    assert caught.value.response.status_code == 403
    assert b'"code":"origin_not_allowed"' in caught.value.response.body


async def test_pages_of_this_machine_may(gateway_url: str) -> None:
    async with connected(f"{gateway_url}/v1/ws", additional_headers={"Origin": "http://localhost:3000"}) as client:
        assert (await client.ask("ping"))["op"] == "pong"


async def test_a_subprotocol_that_is_not_known_is_refused_with_those_that_are(gateway_url: str) -> None:
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with connected(f"{gateway_url}/v1/ws", "graphql-ws"):
            pass
    assert caught.value.response.status_code == 400
    assert MSGPACK.encode() in caught.value.response.body
