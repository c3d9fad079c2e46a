"""What one client may ask for, over all gateways."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
import websockets

from tailrace.bus import Bus, BusSettings, open_bus
from tailrace.gateway.app import create_app
from tailrace.gateway.settings import read_settings
from tests.e2e.sse_client import open_stream
from tests.integration.auth.issuer import SECRET, Issuer
from tests.integration.gateway.live import live_app, live_gateway
from tests.integration.ws.client import connected
from tests.patience import patient

pytestmark = pytest.mark.anyio

RUN = "acme__build-7"
PATH = f"/v1/executions/{RUN}"


@pytest.fixture(autouse=True)
async def _run(bus: Bus) -> None:
    await bus.submit("document", execution_id=RUN, tenant="acme")


@asynccontextmanager
async def limited(bus: Bus, **limits: Any) -> AsyncGenerator[tuple[str, httpx.AsyncClient], None]:
    settings = read_settings(drain_seconds=0, jwt_hs256_keys=SECRET, **limits)
    async with live_gateway(bus, settings) as url, httpx.AsyncClient(base_url=url) as client:
        yield url, client


def check_refusal(answer: httpx.Response, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (429, code)
    assert 1 <= int(answer.headers["retry-after"]) <= 300


async def test_requests_are_counted_over_all_gateways_and_for_each_subject(bus: Bus, issuer: Issuer) -> None:
    few = {"requests_per_second": 0.05, "requests_burst": 10}
    async with limited(bus, **few) as (_, one), limited(bus, **few) as (_, two):
        answers = [await client.get(PATH, headers=issuer.headers()) for _ in range(5) for client in (one, two)]
        assert [answer.status_code for answer in answers] == [200] * 10
        for client in (one, two):
            check_refusal(await client.get(PATH, headers=issuer.headers()), "too_many_requests")
        assert (await one.get(PATH, headers=issuer.headers(subject="bob"))).status_code == 200
        assert bus.counters["refused_requests"] == 2


async def test_requests_at_the_same_time_get_no_more_than_the_burst(bus: Bus, issuer: Issuer) -> None:
    async with limited(bus, requests_per_second=0.05, requests_burst=7) as (_, client):
        headers = issuer.headers()
        answers = await asyncio.gather(*(client.get(PATH, headers=headers) for _ in range(30)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [429] * 23


async def test_a_bucket_fills_again(bus: Bus, issuer: Issuer) -> None:
    async with limited(bus, requests_per_second=2, requests_burst=1) as (_, client):
        headers = issuer.headers()
        assert (await client.get(PATH, headers=headers)).status_code == 200
        refused = await client.get(PATH, headers=headers)
        check_refusal(refused, "too_many_requests")
        await asyncio.sleep(int(refused.headers["retry-after"]))  # what a client does
        assert (await client.get(PATH, headers=headers)).status_code == 200


async def test_events_are_counted_and_not_requests_with_them(bus: Bus, issuer: Issuer) -> None:
    async with limited(bus, events_per_second=0.05, events_burst=10) as (_, client):
        headers = {**issuer.headers(), "Content-Type": "application/x-ndjson"}
        batch = b'{"type":"log","data":1}\n' * 6
        assert (await client.post(f"{PATH}/events", headers=headers, content=batch)).status_code == 200
        check_refusal(await client.post(f"{PATH}/events", headers=headers, content=batch), "event_rate_exceeded")
        assert (await bus.log.extent(RUN)).length == 1 + 6
        single = await client.post(f"{PATH}/events", headers=issuer.headers(), json={"type": "log", "data": 1})
        assert single.status_code == 200


async def test_attack_46_a_tenant_has_a_quota_of_executions_over_all_gateways(bus: Bus, issuer: Issuer) -> None:
    few = {"tenant_executions_per_hour": 5}
    async with limited(bus, **few) as (_, one), limited(bus, **few) as (_, two):
        for number in range(4):
            headers = issuer.headers(subject=f"subject{number}")
            answer = await (one, two)[number % 2].post("/v1/executions", headers=headers, json={"pipeline": "document"})
            assert answer.status_code == 202
        begun = await two.post("/v1/executions/acme__own/events", headers=issuer.headers(), json={"type": "log"})
        assert begun.status_code == 200
        again = await two.post("/v1/executions/acme__own/events", headers=issuer.headers(), json={"type": "log"})
        assert again.status_code == 200
        for client, path, body in (
            (one, "/v1/executions", {"pipeline": "document"}),
            (two, "/v1/executions/acme__other/events", {"type": "log"}),
        ):
            refused = await client.post(path, headers=issuer.headers(), json=body)
            assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
            assert refused.json()["limit"] == 5
        other = issuer.headers(tenant="globex")
        assert (await one.post("/v1/executions", headers=other, json={"pipeline": "document"})).status_code == 202
        assert bus.counters["refused_executions"] == 2


async def test_attack_46_a_tenant_has_a_quota_of_bytes(bus: Bus, issuer: Issuer) -> None:
    async with limited(bus, tenant_bytes_per_hour=100_000) as (_, client):
        large = {"pipeline": "document", "input": {"x": "x" * 40_000}}
        for expected in (202, 202, 429):
            assert (await client.post("/v1/executions", headers=issuer.headers(), json=large)).status_code == expected
        event = {"type": "log", "data": "x" * 40_000}
        refused = await client.post(f"{PATH}/events", headers=issuer.headers(), json=event)
        assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")


async def test_attack_46_only_queues_of_the_list_are_submitted_to(bus: Bus, issuer: Issuer) -> None:
    async with limited(bus, submit_queues="default, urgent") as (_, client):
        for queue, expected in (("default", 202), ("urgent", 202), ("invented", 403)):
            body = {"pipeline": "document", "queue": queue}
            answer = await client.post("/v1/executions", headers=issuer.headers(), json=body)
            assert answer.status_code == expected
        assert answer.json()["code"] == "queue_not_allowed"
    assert await bus.jobs.queues.length("invented") == 0


async def test_attack_67_a_bucket_fills_again_though_the_clock_was_set_back(bus: Bus, issuer: Issuer) -> None:
    async with limited(bus, requests_per_second=2, requests_burst=1) as (_, client):
        headers = issuer.headers()
        assert (await client.get(PATH, headers=headers)).status_code == 200
        ahead_ms = (time.time_ns() // 1_000_000) + 3_600_000
        await bus.commands.command("HSET", bus.keys.bucket("requests", "acme/ann"), "ms", ahead_ms)
        refused = await client.get(PATH, headers=headers)
        check_refusal(refused, "too_many_requests")
        await asyncio.sleep(int(refused.headers["retry-after"]))  # what a client does
        assert (await client.get(PATH, headers=headers)).status_code == 200


async def test_a_batch_larger_than_the_burst_can_be_published_with_a_full_bucket(bus: Bus, issuer: Issuer) -> None:
    async with limited(bus, events_per_second=0.05, events_burst=10) as (_, client):
        headers = {**issuer.headers(), "Content-Type": "application/x-ndjson"}
        batch = b'{"type":"log","data":1}\n' * 50
        assert (await client.post(f"{PATH}/events", headers=headers, content=batch)).status_code == 200
        check_refusal(await client.post(f"{PATH}/events", headers=headers, content=batch), "event_rate_exceeded")


async def test_streams_of_one_subject_are_bounded_and_who_leaves_makes_room(bus: Bus, issuer: Issuer) -> None:
    async with limited(bus, max_connections_per_principal=3) as (url, client), AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(open_stream(url, RUN, headers=issuer.headers())) for _ in range(3)]
        for stream in streams:
            await stream.until("stream.caught_up")
        check_refusal(await client.get(f"{PATH}/events", headers=issuer.headers()), "too_many_connections")
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with connected(f"{url.replace('http', 'ws', 1)}/v1/ws", additional_headers=issuer.headers()):
                pass
        assert refused.value.response.status_code == 429
        assert "retry-after" in refused.value.response.headers
        async with open_stream(url, RUN, headers=issuer.headers(subject="bob")) as stream:
            assert stream.status == 200
        streams[0].close()
        async with asyncio.timeout(patient(10)):
            while True:
                async with open_stream(url, RUN, headers=issuer.headers()) as again:
                    if again.status == 200:
                        break


async def test_attack_61_streams_of_one_subject_are_bounded_over_all_gateways(
    bus: Bus, server_url: str, prefix: str, issuer: Issuer
) -> None:
    """As of some seconds ago: here the gateways write at once, in place of waiting for that."""
    few = read_settings(drain_seconds=0, jwt_hs256_keys=SECRET, max_connections_per_principal=3)
    async with AsyncExitStack() as stack:
        other_bus = await stack.enter_async_context(await open_bus(server_url, settings=BusSettings(prefix=prefix)))
        apps = [create_app(each, few) for each in (bus, other_bus)]
        urls = [await stack.enter_async_context(live_app(app)) for app in apps]

        async def tell() -> None:
            for app in (*apps, *apps):
                await app.state.gateway.presence.write()

        await tell()
        for url in (urls[0], urls[1], urls[1]):
            stream = await stack.enter_async_context(open_stream(url, RUN, headers=issuer.headers()))
            await stream.until("stream.caught_up")
        await tell()
        for url in urls:
            async with httpx.AsyncClient(base_url=url) as client:
                check_refusal(await client.get(f"{PATH}/events", headers=issuer.headers()), "too_many_connections")
        async with open_stream(urls[0], RUN, headers=issuer.headers(subject="bob")) as stream:
            assert stream.status == 200


async def test_streams_of_one_address_are_bounded(bus: Bus, issuer: Issuer) -> None:
    limits = {"max_connections_per_ip": 1, "trusted_proxies": "127.0.0.0/8"}
    async with limited(bus, **limits) as (url, client):
        one = {**issuer.headers(), "X-Forwarded-For": "198.51.100.7"}
        async with open_stream(url, RUN, headers=one) as stream:
            await stream.until("stream.caught_up")
            other_subject = {**issuer.headers(subject="bob"), "X-Forwarded-For": "198.51.100.7"}
            check_refusal(await client.get(f"{PATH}/events", headers=other_subject), "too_many_connections")
            elsewhere = {**issuer.headers(), "X-Forwarded-For": "198.51.100.8"}
            async with open_stream(url, RUN, headers=elsewhere) as another:
                assert another.status == 200


async def test_a_full_gateway_asks_browsers_to_come_again_and_tells_programs_when(bus: Bus, issuer: Issuer) -> None:
    async with limited(bus, max_connections=1) as (url, client):
        async with open_stream(url, RUN, headers=issuer.headers()) as stream:
            await stream.until("stream.caught_up")
            async with open_stream(url, RUN, headers=issuer.headers()) as turned_away:
                assert turned_away.status == 200
                body = (await turned_away.body()).decode()
            assert "event: stream.error" in body
            assert '"code":"gateway_full"' in body
            assert "retry: " in body
            headers = {**issuer.headers(), "Accept": "application/x-ndjson"}
            answer = await client.get(f"{PATH}/events", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (503, "gateway_full")
            assert int(answer.headers["retry-after"]) >= 1
            assert (await client.get(PATH, headers=issuer.headers())).status_code == 200
        assert bus.counters["refused_connections_gateway_full"] == 2


async def test_subscriptions_of_a_socket_are_bounded_by_a_setting(bus: Bus, issuer: Issuer) -> None:
    runs = [await bus.submit("document", tenant="acme") for _ in range(3)]
    async with (
        limited(bus, max_subscriptions=2) as (url, _),
        connected(f"{url.replace('http', 'ws', 1)}/v1/ws", additional_headers=issuer.headers()) as socket,
    ):
        answers = [await socket.ask("subscribe", execution=run) for run in runs]
    assert [answer.get("code") for answer in answers] == [None, None, "too_many_subscriptions"]


async def test_ops_of_a_socket_are_requests_too(bus: Bus, issuer: Issuer) -> None:
    async with (
        limited(bus, requests_per_second=0.05, requests_burst=3) as (url, _),
        connected(f"{url.replace('http', 'ws', 1)}/v1/ws", additional_headers=issuer.headers()) as socket,
    ):
        answers = [await socket.ask("unsubscribe", execution=RUN) for _ in range(3)]
        assert (await socket.ask("ping"))["op"] == "pong"
    assert [answer["code"] for answer in answers] == ["not_subscribed", "not_subscribed", "too_many_requests"]


async def test_a_bucket_that_a_stranger_broke_keeps_nobody_out(bus: Bus, issuer: Issuer) -> None:
    await bus.commands.command("SET", bus.keys.bucket("requests", "acme/ann"), "no bucket")
    async with limited(bus) as (_, client):
        assert (await client.get(PATH, headers=issuer.headers())).status_code == 200
    assert bus.counters["limits_unchecked"] == 1


async def test_without_credentials_nobody_is_counted(bus: Bus) -> None:
    limits = {"requests_per_second": 0.05, "requests_burst": 1, "max_connections_per_ip": 1}
    settings = read_settings(drain_seconds=0, **limits)
    async with live_gateway(bus, settings) as url, httpx.AsyncClient(base_url=url) as client, AsyncExitStack() as stack:
        for _ in range(3):
            assert (await client.get(PATH)).status_code == 200
            stream = await stack.enter_async_context(open_stream(url, RUN))
            assert stream.status == 200
    assert not await bus.commands.command("EXISTS", bus.keys.bucket("requests", "*/anonymous"))
