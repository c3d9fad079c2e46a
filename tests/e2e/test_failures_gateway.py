"""What broke in others' systems at the edge: shutdown, reconnects, proxies, browsers. Named after the failure cases."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tailrace.bus import Bus, BusSettings, open_bus
from tests.e2e.logs import append_events, controls_of
from tests.e2e.proxied.nginx import buffering_nginx
from tests.e2e.sse_client import open_stream
from tests.e2e.waiting import eventually
from tests.faults.gateway.watching import Publishing, assert_all_got_exactly, followers_of
from tests.integration.gateway.live import GatewayProcess
from tests.patience import patient, stretched

pytestmark = pytest.mark.anyio

VIEWERS = 500
DRAIN_SECONDS = 3.0
# What a busy machine may add to a drain; a shutdown that waits for viewers would last as long as they stay.
LATE_SECONDS = 10.0


# 26 · sse-starlette 132/167, uvicorn 2829


@pytest.mark.slow
async def test_case_26_a_rolling_restart_of_two_gateways_under_500_viewers_loses_nothing_and_ends_in_time(
    server_url: str, prefix: str, run: str
) -> None:
    settings = {"redis_url": server_url, "prefix": prefix, "drain_seconds": str(DRAIN_SECONDS)}
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(await open_bus(server_url, settings=BusSettings(prefix=prefix)))
        gateways = [stack.enter_context(GatewayProcess(**settings)) for _ in range(2)]
        urls = [await asyncio.to_thread(each.url) for each in gateways]
        publishing = Publishing(bus, run, events_a_second=20)
        followers = followers_of(run, urls, VIEWERS)
        for follower in followers:
            # Nobody but the gateways ends a connection here.
            follower.cut_after_bytes = lambda _: None
        async with asyncio.timeout(patient(110)), asyncio.TaskGroup() as group:
            group.create_task(publishing.publish())

            async def there() -> bool:
                """the run has begun"""
                return await bus.log.exists(run)

            await eventually(there)
            for follower in followers:
                group.create_task(follower.follow())
            for turn in range(2):
                emitted = publishing.emitted

                async def everybody_goes_on(emitted: int = emitted) -> bool:
                    """every viewer has events of after the last restart"""
                    return all(len(follower.events) > emitted + 2 for follower in followers)

                await eventually(everybody_goes_on, seconds=60)
                gateways[turn].signal(signal.SIGTERM)
                code, took_seconds = await asyncio.to_thread(gateways[turn].wait)
                assert (code, gateways[turn].errors) == (0, gateways[turn].errors)
                assert took_seconds < stretched(DRAIN_SECONDS + LATE_SECONDS)
                port = str(urlsplit(urls[turn]).port)
                gateways[turn] = stack.enter_context(GatewayProcess(**settings, port=port))
                assert await asyncio.to_thread(gateways[turn].url) == urls[turn]
            publishing.end()
        await assert_all_got_exactly(bus, run, publishing.emitted, followers)
    told = [frame for each in followers for frame in each.controls if frame.name == "stream.reconnect"]
    asked = [frame.payload["retry_ms"] for frame in told]
    assert len(asked) >= VIEWERS
    # Spread over the drain, so that they do not come back all at once.
    asked.sort()
    assert asked[len(asked) // 4] < asked[3 * len(asked) // 4] - 500


# 28 · cetacean 149, twenty 17523, PostHog 64616, cloudflared 1496


async def test_case_28_an_idle_stream_says_at_least_every_fifteen_seconds_that_it_lives(
    server_url: str, prefix: str, run: str
) -> None:
    with GatewayProcess(redis_url=server_url, prefix=prefix) as gateway:
        async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as bus:
            await append_events(bus, run, 1)
        async with open_stream(gateway.url(), run) as stream:
            await stream.until("stream.caught_up")
            begun = time.monotonic()
            async with asyncio.timeout(patient(20)):
                while not stream.frames_reader.heartbeats:
                    stream.frames_reader.feed(await stream.read())
            assert time.monotonic() - begun <= stretched(15)


async def test_case_28_viewers_that_are_sent_away_are_told_different_times_to_come_back(
    server_url: str, prefix: str, run: str
) -> None:
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(await open_bus(server_url, settings=BusSettings(prefix=prefix)))
        await append_events(bus, run, 1)
        gateway = stack.enter_context(GatewayProcess(redis_url=server_url, prefix=prefix, drain_seconds="1"))
        url = await asyncio.to_thread(gateway.url)
        viewers = [await stack.enter_async_context(open_stream(url, run)) for _ in range(40)]
        await asyncio.gather(*(viewer.until("stream.caught_up") for viewer in viewers))
        gateway.signal(signal.SIGTERM)
        told = await asyncio.gather(*(viewer.rest() for viewer in viewers))
        retries = {controls_of(frames, "stream.reconnect")[0].payload["retry_ms"] for frames in told}
        # An EventSource obeys the field, not our data.
        assert {viewer.frames_reader.retries[-1] for viewer in viewers} == retries
        assert len(retries) > 20


async def test_case_28_a_proxy_that_buffers_and_zips_by_default_passes_each_event_on_at_once(
    bus: Bus, gateway_url: str, run: str, tmp_path: Path
) -> None:
    await append_events(bus, run, 1)
    with buffering_nginx(gateway_url, tmp_path) as proxy:
        await asyncio.to_thread(proxy.await_ready)
        async with (
            httpx.AsyncClient(base_url=proxy.url, headers={"Accept-Encoding": "gzip, br"}) as client,
            client.stream("GET", f"/v1/executions/{run}/events") as answer,
        ):
            assert "content-encoding" not in answer.headers
            assert answer.headers["cache-control"] == "no-cache, no-transform"
            lines = answer.aiter_lines()
            for k in range(1, 4):
                async with aclosing(bus.publisher(run)) as publisher:
                    await publisher.append("custom.counted", {"k": k})
                # It is here before the next one is published: nobody waits for a buffer to fill.
                async with asyncio.timeout(patient(5)):
                    async for line in lines:
                        if line.startswith("data: ") and json.loads(line[6:]).get("data") == {"k": k}:
                            break


# 29 · agent-dashboard 19, ranger-ims 1322


async def test_case_29_twenty_runs_take_one_connection(bus: Bus, gateway_url: str, run: str) -> None:
    runs = [f"{run}-{number}" for number in range(20)]
    for each in runs:
        await append_events(bus, each, 1)
    # A browser's six connections to an origin, all of them: one is enough, and five are left for the page.
    limits = httpx.Limits(max_connections=6)
    seen: set[tuple[str, int]] = set()
    published = False
    async with (
        asyncio.timeout(patient(30)),
        httpx.AsyncClient(base_url=gateway_url, limits=limits) as client,
        client.stream("GET", "/v1/stream", params={"execution": runs}) as answer,
    ):
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            event = json.loads(line[6:])
            if event.get("type") == "custom.counted":
                seen.add((event["execution_id"], event["data"]["k"]))
            if not published and len(seen) == len(runs):
                published = True
                for each in runs:
                    await append_events(bus, each, 1, first=1)
            if len(seen) == 2 * len(runs):
                break
        assert (await client.get("/healthz")).status_code == 200
    assert seen == {(each, k) for each in runs for k in (0, 1)}
