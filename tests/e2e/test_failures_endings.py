"""Endings that were lost, or made up: each test is named after the failure case of others' systems."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest
from redis.asyncio import Redis

from tailrace.bus import Bus, BusSettings, open_bus
from tests.e2e.logs import (
    append_events,
    controls_of,
    ids_of,
    names_of,
)
from tests.e2e.runs import end, watch_to_the_end
from tests.e2e.sse_client import ConnectionBrokenError, open_stream
from tests.e2e.waiting import eventually
from tests.integration.gateway.live import GatewayProcess
from tests.patience import stretched
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio


# 6 · resumable-stream 47


async def test_case_06_an_end_that_falls_into_a_lost_connection_reaches_the_viewer(
    fresh_server: RunningServer, run: str
) -> None:
    with GatewayProcess(redis_url=fresh_server.url) as gateway:
        async with (
            await open_bus(fresh_server.url) as bus,
            Redis.from_url(fresh_server.url) as client,
            open_stream(await asyncio.to_thread(gateway.url), run) as unknown,
        ):
            assert unknown.status == 404
            await append_events(bus, run, 3)
            async with open_stream(gateway.url(), run) as stream:
                await stream.until("stream.caught_up")
                # In one step: nobody hears of the end on the connections that there were.
                pipeline = client.pipeline(transaction=True)
                pipeline.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                pipeline.execute_command("CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes")
                await pipeline.execute()
                terminal = await end(bus, run)
                frames = await stream.rest(seconds=10)
    assert ids_of(frames) == [terminal]
    assert names_of(frames)[-1] == "stream.end"


async def test_case_06_a_log_that_vanished_after_its_end_still_ends_its_viewers(
    bus: Bus, gateway_url: str, run: str
) -> None:
    await append_events(bus, run, 3)
    async with open_stream(gateway_url, run) as stream:
        await stream.until("stream.caught_up")
        # The ending and the loss in one step, as when a replica that had only the state were promoted.
        await bus.commands.command("MULTI")
        await bus.commands.command("HSET", bus.keys.meta(run), "terminal", "9999999999999-4", "status", "failed")
        await bus.commands.command("DEL", bus.keys.log(run))
        await bus.commands.command("EXEC")
        frames = await stream.rest(seconds=10)
    assert names_of(frames)[-1] == "stream.end"
    assert len(controls_of(frames, "stream.gap")) == 1


# 8 · aegra 472


@pytest.mark.parametrize("after", [None, 1], ids=["start", "cursor"])
async def test_case_08_an_ended_run_whose_log_expired_ends_at_once_and_says_that_events_are_gone(
    bus: Bus, gateway_url: str, run: str, after: int | None
) -> None:
    ids = await append_events(bus, run, 3)
    terminal = await end(bus, run)
    await bus.commands.command("PEXPIRE", bus.keys.log(run), 1)

    async def expired() -> bool:
        return not await bus.commands.command("EXISTS", bus.keys.log(run))

    await eventually(expired)
    frames = await watch_to_the_end(gateway_url, run, after=None if after is None else ids[after])
    assert names_of(frames)[:2] == ["stream.open", "stream.gap"]
    assert frames[1].payload["reason"] == "expired"
    assert names_of(frames)[-1] == "stream.end"
    assert frames[-1].payload["status"] == "completed"
    last = next(frame.id for frame in reversed(frames) if frame.id is not None)
    for cursor in (last, terminal):
        async with open_stream(gateway_url, run, after=cursor) as again:
            assert again.status == 204


async def test_case_08_a_run_of_which_nothing_is_left_is_unknown_at_once(bus: Bus, gateway_url: str, run: str) -> None:
    ids = await append_events(bus, run, 3)
    await end(bus, run)
    await bus.commands.command("DEL", *bus.keys.of_execution(run))
    async with open_stream(gateway_url, run, after=ids[0]) as stream:
        assert stream.status == 404


# 9 · agentex 385


async def test_case_09_a_missing_log_is_not_taken_as_an_end(bus: Bus, gateway_url: str, run: str) -> None:
    ids = await append_events(bus, run, 3)
    async with open_stream(gateway_url, run) as stream:
        await stream.until("stream.caught_up")
        await bus.commands.command("DEL", bus.keys.log(run))
        gap = await stream.until("stream.gap")
        async with open_stream(gateway_url, run, after=ids[-1]) as newcomer:
            await newcomer.until("stream.gap")
            new = await append_events(bus, run, 2, first=3)
            for viewer in (stream, newcomer):
                frames = await viewer.until_true(lambda frame: frame.id == new[-1])
                assert ids_of(frames) == new
                assert controls_of(frames, "stream.end") == []
    assert gap[-1].payload["reason"] == "expired"


async def test_case_09_a_quiet_run_outlives_its_retention_while_it_is_held(
    server_url: str, module_prefix: str, gateway_url: str, run: str
) -> None:
    settings = BusSettings(prefix=module_prefix, live_seconds=2, lease_seconds=1)
    async with await open_bus(server_url, settings=settings) as brief:
        async with brief.execution(run) as execution, open_stream(gateway_url, run) as stream:
            await stream.until("stream.caught_up")
            # Longer than the retention: what must not happen takes time.
            await asyncio.sleep(3.5)
            last = await execution.append("custom.answered", {"after": "a long think"})
            frames = await stream.until_true(lambda frame: frame.id == str(last))
        assert names_of(frames) == ["custom.answered"]
        assert await brief.commands.command("XLEN", brief.keys.log(run)) == 3


# 27 · trigger.dev 2929


async def test_case_27_a_stream_cut_by_its_gateways_death_does_not_look_like_an_end(
    server_url: str, prefix: str, run: str
) -> None:
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as bus:
        ids = await append_events(bus, run, 5)
        with GatewayProcess(redis_url=server_url, prefix=prefix) as gateway:
            url = await asyncio.to_thread(gateway.url)
            async with open_stream(url, run) as stream:
                frames = await stream.until("stream.caught_up")
                gateway.signal(signal.SIGKILL)
                with pytest.raises(ConnectionBrokenError):
                    await stream.rest()
    assert ids_of(frames) == ids
    assert not stream.complete
    assert not {"stream.end", "execution.completed"} & set(names_of(frames))


async def test_case_27_a_stream_that_its_gateway_closed_on_leaving_says_that_it_goes_on_elsewhere(
    server_url: str, prefix: str, run: str
) -> None:
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as bus:
        await append_events(bus, run, 5)
        with GatewayProcess(redis_url=server_url, prefix=prefix, drain_seconds="0") as gateway:
            async with open_stream(await asyncio.to_thread(gateway.url), run) as stream:
                await stream.until("stream.caught_up")
                gateway.signal(signal.SIGTERM)
                frames = await stream.rest()
    assert stream.complete
    assert names_of(frames) == ["stream.reconnect"]


async def test_case_27_an_ended_stream_says_so_last(bus: Bus, gateway_url: str, run: str) -> None:
    await append_events(bus, run, 5)
    terminal = await end(bus, run)
    begun = time.monotonic()
    async with open_stream(gateway_url, run) as stream:
        frames = await stream.rest()
    assert time.monotonic() - begun < stretched(5)
    assert stream.complete
    assert names_of(frames)[-2:] == ["execution.completed", "stream.end"]
    assert frames[-1].payload == {"execution_id": run, "cursor": terminal, "status": "completed"}
