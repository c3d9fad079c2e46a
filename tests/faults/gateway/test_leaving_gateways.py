"""Gateways that die and gateways that leave: their viewers go on elsewhere, or come back."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import pytest

from tailrace.bus import BusSettings, open_bus
from tests.e2e.logs import append_events, controls_of, names_of
from tests.e2e.sse_client import SseStream, open_stream
from tests.e2e.sse_frames import Frame
from tests.e2e.waiting import eventually
from tests.faults.gateway.watching import Publishing, assert_all_got_exactly, followers_of
from tests.integration.gateway.live import GatewayProcess
from tests.patience import patient, stretched

pytestmark = pytest.mark.anyio

VIEWERS = 300
DRAIN_SECONDS = 2.0


async def test_gateways_killed_in_turn_under_their_viewers_lose_nothing(server_url: str, prefix: str, run: str) -> None:
    def gateway(port: str = "0") -> GatewayProcess:
        return stack.enter_context(GatewayProcess(redis_url=server_url, prefix=prefix, port=port))

    async with (
        AsyncExitStack() as stack,
        await open_bus(server_url, settings=BusSettings(prefix=prefix)) as bus,
    ):
        gateways = [gateway(), gateway()]
        urls = [await asyncio.to_thread(each.url) for each in gateways]
        publishing = Publishing(bus, run, events_a_second=100)
        followers = followers_of(run, urls, 30)
        async with asyncio.timeout(patient(100)), asyncio.TaskGroup() as group:
            group.create_task(publishing.publish())

            async def there() -> bool:
                """the run has begun"""
                return await bus.log.exists(run)

            await eventually(there)
            for follower in followers:
                group.create_task(follower.follow())
            for turn in range(4):
                emitted = publishing.emitted

                async def everybody_goes_on(emitted: int = emitted) -> bool:
                    """every viewer has events of after the last death"""
                    return all(len(follower.events) > emitted + 10 for follower in followers)

                await eventually(everybody_goes_on, seconds=40)
                dying = turn % 2
                gateways[dying].signal(signal.SIGKILL)
                await asyncio.to_thread(gateways[dying].wait)
                gateways[dying] = gateway(str(urlsplit(urls[dying]).port))
            publishing.end()
        await assert_all_got_exactly(bus, run, publishing.emitted, followers)
    assert sum(follower.connections for follower in followers) > 2 * len(followers)


async def test_three_hundred_viewers_are_sent_away_one_by_one_and_the_gateway_is_gone_in_time(
    server_url: str, prefix: str, run: str
) -> None:
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(await open_bus(server_url, settings=BusSettings(prefix=prefix)))
        gateway = stack.enter_context(
            GatewayProcess(redis_url=server_url, prefix=prefix, drain_seconds=str(DRAIN_SECONDS))
        )
        url = await asyncio.to_thread(gateway.url)
        await append_events(bus, run, 3)
        viewers = [await stack.enter_async_context(open_stream(url, run)) for _ in range(VIEWERS)]
        await asyncio.gather(*(viewer.until("stream.caught_up") for viewer in viewers))
        begun = time.monotonic()
        gateway.signal(signal.SIGTERM)
        (code, took_seconds), told = await asyncio.gather(
            asyncio.to_thread(gateway.wait), asyncio.gather(*(sent_away(viewer) for viewer in viewers))
        )
    assert code == 0
    assert took_seconds < stretched(DRAIN_SECONDS + 2)
    assert not [line for line in gateway.errors if "Traceback" in line]
    for frames, _ in told:
        assert names_of(frames) == ["stream.reconnect"]
        assert frames[0].payload["retry_ms"] > 0
    # Spread, so that they do not arrive elsewhere all at once.
    at = sorted(moment - begun for _, moment in told)
    halves = at[len(at) // 2]
    assert DRAIN_SECONDS * 0.2 < halves < DRAIN_SECONDS * 0.8, at[:: len(at) // 10]
    assert len({frames[0].payload["retry_ms"] for frames, _ in told}) > VIEWERS // 3


async def sent_away(viewer: SseStream) -> tuple[list[Frame], float]:
    frames = await viewer.rest()
    return frames, time.monotonic()


async def test_who_asks_on_an_open_connection_while_the_gateway_drains_is_sent_away_too(
    server_url: str, prefix: str, run: str
) -> None:
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(await open_bus(server_url, settings=BusSettings(prefix=prefix)))
        gateway = stack.enter_context(GatewayProcess(redis_url=server_url, prefix=prefix, drain_seconds="2"))
        url = await asyncio.to_thread(gateway.url)
        await append_events(bus, run, 3)
        viewers = [await stack.enter_async_context(open_stream(url, run)) for _ in range(4)]
        for viewer in viewers:
            await viewer.until("stream.caught_up")
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(f"GET /healthz HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        await reader.readexactly(length)
        gateway.signal(signal.SIGTERM)
        leaving = [asyncio.create_task(sent_away(each)) for each in viewers]
        # The first of the others is sent away: the drain has begun.
        await asyncio.wait(leaving, return_when=asyncio.FIRST_COMPLETED)
        writer.write(
            f"GET /v1/executions/{run}/events HTTP/1.1\r\nHost: {address.netloc}\r\n"
            "Accept: text/event-stream\r\n\r\n".encode()
        )
        stream = SseStream(reader, writer)
        await stream.read_head()
        frames = await stream.rest(seconds=10)
        stream.close()
        await asyncio.gather(*leaving)
        code, _ = await asyncio.to_thread(gateway.wait)
    assert code == 0
    assert stream.status == 200
    assert len(controls_of(frames, "stream.reconnect")) == 1
    assert names_of(frames)[-1] == "stream.reconnect"
