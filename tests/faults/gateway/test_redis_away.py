"""Redis restarts, crashes, hangs and stays away under live viewers: no loss, no duplicate, no gap."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from tailrace.bus import Bus, open_bus
from tests.e2e.followers import Follower
from tests.e2e.logs import ids_of, log_ids
from tests.e2e.sse_client import open_stream
from tests.e2e.waiting import eventually
from tests.faults.gateway.watching import Publishing, assert_all_got_exactly, followers_of
from tests.integration.gateway.live import GatewayProcess
from tests.patience import patient
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

HEARTBEAT_SECONDS = 1.0


@dataclass
class Scene:
    server: RunningServer
    url: str
    bus: Bus
    run: str
    publishing: Publishing
    steady: list[Follower]
    restless: list[Follower]

    async def everybody_watches(self) -> None:
        async def watching() -> bool:
            """every steady viewer gets events"""
            return all(len(follower.events) > 20 for follower in self.steady)

        await eventually(watching)

    async def goes_on(self) -> None:
        """Wait until new events have come through to everybody."""
        emitted = self.publishing.emitted

        async def caught_up() -> bool:
            """every steady viewer has what was emitted since"""
            return all(len(follower.events) > emitted + 20 for follower in self.steady)

        await eventually(caught_up, seconds=30)


@asynccontextmanager
async def scene(server: RunningServer, run: str) -> AsyncGenerator[Scene, None]:
    """Viewers that never let go and viewers that come and go, while a run publishes; at the end, the verdict."""
    async with AsyncExitStack() as stack:
        gateway = stack.enter_context(GatewayProcess(redis_url=server.url, heartbeat_seconds=str(HEARTBEAT_SECONDS)))
        url = await asyncio.to_thread(gateway.url)
        bus = await stack.enter_async_context(await open_bus(server.url))
        publishing = Publishing(bus, run)
        set_up = Scene(
            server, url, bus, run, publishing, followers_of(run, [url], 8), followers_of(run, [url], 4, restless=True)
        )
        everybody = [*set_up.steady, *set_up.restless]
        async with asyncio.timeout(patient(90)), asyncio.TaskGroup() as group:
            group.create_task(publishing.publish())

            async def there() -> bool:
                """the run has begun"""
                return await bus.log.exists(run)

            await eventually(there)
            for follower in everybody:
                group.create_task(follower.follow())
            await set_up.everybody_watches()
            yield set_up
            await set_up.goes_on()
            publishing.end()
        await assert_all_got_exactly(bus, run, publishing.emitted, everybody)
        # They were never let go, and never left without a sign of life.
        assert [follower.connections for follower in set_up.steady] == [1] * len(set_up.steady)


async def restart(server: RunningServer) -> None:
    await asyncio.to_thread(server.restart)


async def crash(server: RunningServer) -> None:
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)


@pytest.mark.parametrize("happens", [restart, crash])
async def test_a_redis_that_restarts_with_its_file_costs_nobody_anything(
    fresh_server: RunningServer, run: str, happens: Callable[[RunningServer], Awaitable[None]]
) -> None:
    async with scene(fresh_server, run) as watched:
        for _ in range(2):
            await happens(fresh_server)
            await watched.goes_on()


@pytest.mark.slow
async def test_a_redis_that_hangs_for_eight_seconds_is_waited_for_with_heartbeats(
    fresh_server: RunningServer, run: str
) -> None:
    async with scene(fresh_server, run) as watched:
        before = [follower.heartbeats for follower in watched.steady]
        fresh_server.pause()
        await asyncio.sleep(8)
        alive = [follower.heartbeats for follower in watched.steady]
        fresh_server.resume()
    assert all(now >= then + 3 for then, now in zip(before, alive, strict=True))


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_a_redis_that_is_gone_for_twenty_seconds_leaves_viewers_connected_and_tells_newcomers(
    fresh_server: RunningServer, run: str
) -> None:
    async with (
        scene(fresh_server, run) as watched,
        httpx.AsyncClient(base_url=watched.url, timeout=patient(20)) as http,
    ):
        await append_large(watched.bus, f"{run}-large")
        before = [follower.heartbeats for follower in watched.steady]
        async with open_stream(watched.url, f"{run}-large", receive_buffer_bytes=4096) as behind:
            # In the middle of its replay when Redis goes: it must not be left without a sign of life either.
            await behind.until("stream.open")
            await asyncio.to_thread(fresh_server.kill)
            gone = asyncio.get_running_loop().time()
            reading = asyncio.create_task(behind.until("stream.caught_up", seconds=60))
            refused = await http.get(f"/v1/executions/{run}/events", headers={"Accept": "text/event-stream"})
            # An EventSource gives up for ever on a 503; this it obeys, and comes again.
            assert (refused.status_code, refused.headers["content-type"].partition(";")[0]) == (
                200,
                "text/event-stream",
            )
            assert re.search(r"^retry: \d+$", refused.text, re.MULTILINE)
            assert "event: stream.error" in refused.text
            assert '"code":"bus_unavailable"' in refused.text
            assert not re.search(r"^id:", refused.text, re.MULTILINE)
            assert (await http.get("/healthz")).status_code == 200
            assert (await http.get("/readyz")).status_code == 503
            # Attack 16: what the docs say is counted, is.
            deferred = re.search(
                r"^tailrace_streams_deferred_total (\d+)", (await http.get("/metrics")).text, re.MULTILINE
            )
            assert deferred is not None
            # Another viewer may have come back in that moment.
            assert int(deferred[1]) >= 1
            await asyncio.sleep(20 - (asyncio.get_running_loop().time() - gone))
            alive = [follower.heartbeats for follower in watched.steady]
            # A look at Redis takes seconds to fail, and nothing is said while it lasts.
            assert behind.frames_reader.heartbeats >= 3
            await asyncio.to_thread(fresh_server.start)
            frames = await reading
            assert ids_of(frames) == await log_ids(watched.bus, f"{run}-large")
    assert all(now >= then + 8 for then, now in zip(before, alive, strict=True))


async def append_large(bus: Bus, run: str) -> None:
    """More than any socket's buffers hold."""
    publisher = bus.publisher(run)
    for _ in range(400):
        await publisher.emit("custom.large", {"text": "x" * 50_000})
    await publisher.aclose()
