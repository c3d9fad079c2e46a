"""A gateway reads over one connection, whoever watches what; and reads nothing that nobody watches through it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from tailrace.bus import Bus
from tests.e2e.logs import append_events, ids_of
from tests.e2e.sse_client import open_stream
from tests.e2e.waiting import eventually
from tests.integration.gateway.live import GatewayProcess
from tests.integration.hub.clients import clients_of_others
from tests.integration.tail.commandstats import calls
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

RUNS = 100
VIEWERS_A_RUN = 3
UNWATCHED = 50
EVENTS = 200
MOST_OTHER_BYTES = 4096
# Others are also run by the scripts that append.
READS = ("xread", "xrange")


async def test_case_20_three_hundred_viewers_of_a_hundred_runs_share_one_reader(
    fresh_server: RunningServer, prefix: str, bus: Bus, run: str
) -> None:
    """Source: suna 2732, lobehub 17876, dust 20089: a blocking XREAD and a connection for every viewer."""
    runs = [f"{run}-{number}" for number in range(RUNS)]
    async with AsyncExitStack() as stack:
        gateway = stack.enter_context(GatewayProcess(redis_url=fresh_server.url, prefix=prefix))
        url = await asyncio.to_thread(gateway.url)
        connected = await clients_of_others(bus)
        # One for commands, one for the tail.
        assert sorted(client.tracking for client in connected.values()) == [False, True]
        await asyncio.gather(*(append_events(bus, name, 1) for name in runs))
        streams = [
            (name, await stack.enter_async_context(open_stream(url, name)))
            for name in runs
            for _ in range(VIEWERS_A_RUN)
        ]
        for _, stream in streams:
            await stream.until("stream.caught_up")
        before = calls(fresh_server)
        ids = dict(zip(runs, await asyncio.gather(*(append_events(bus, name, 3) for name in runs)), strict=True))
        for name, stream in streams:
            got = await stream.until_true(lambda frame, last=ids[name][-1]: frame.id == last)  # type: ignore[misc]
            assert ids_of(got) == ids[name][1:]
        later = await clients_of_others(bus)
        reads = (calls(fresh_server) - before)["xread"]
    assert later.keys() == connected.keys()
    # Whoever reads by blocking would stand blocked now that nothing comes.
    assert not any(client.blocked for client in later.values())
    # Nobody reads for a viewer; a run's three viewers share what was read for one.
    assert 0 < reads <= RUNS * 3
    print(f"{reads} XREADs brought {RUNS * 3} events of {RUNS} runs to {len(streams)} viewers")


async def test_case_24_what_nobody_watches_here_is_not_read(
    fresh_server: RunningServer, prefix: str, bus: Bus, run: str
) -> None:
    """Source: open-webui 28173: every instance decoded every emit, a third of its processor time."""
    async with AsyncExitStack() as stack:
        gateway = stack.enter_context(GatewayProcess(redis_url=fresh_server.url, prefix=prefix))
        url = await asyncio.to_thread(gateway.url)
        watched = [f"{run}-watched-{number}" for number in range(5)]
        for name in watched:
            await append_events(bus, name, 1)
        streams = [await stack.enter_async_context(open_stream(url, name)) for name in watched]
        for stream in streams:
            await stream.until("stream.caught_up")
        before, sent_before = calls(fresh_server), await sent_to_others(bus)
        published = await asyncio.gather(*(publish(bus, f"{run}-{number}") for number in range(UNWATCHED)))
        read = calls(fresh_server) - before
        sent_bytes = await sent_to_others(bus) - sent_before
        # It was there all the time, and awake.
        for name, stream in zip(watched, streams, strict=True):
            ids = await append_events(bus, name, 1)
            assert ids_of(await stream.until_true(lambda frame: frame.id is not None)) == ids[1:]
        assert (calls(fresh_server) - before)["xread"] > 0
        assert await sent_to_others(bus) > sent_before + sent_bytes
    print(f"{sum(published)} events published, {sent_bytes} bytes sent to the gateway")
    assert {name: read[name] for name in READS} == dict.fromkeys(READS, 0)
    # Room for PINGs, and for what a gateway asks for beside: what is due to be healed, and who else is there.
    assert sent_bytes < MOST_OTHER_BYTES < sum(published) * 100


async def test_case_24_a_run_is_not_read_any_more_once_its_last_viewer_has_been_gone_for_a_while(
    fresh_server: RunningServer, prefix: str, bus: Bus, run: str
) -> None:
    """Source: open-webui 28173. A viewer who only reloads finds his run still watched; nobody is waited for longer."""
    with GatewayProcess(redis_url=fresh_server.url, prefix=prefix, linger_seconds="2") as gateway:
        url = await asyncio.to_thread(gateway.url)
        await append_events(bus, run, 1)
        for _ in range(2):
            async with open_stream(url, run) as first, open_stream(url, run) as second:
                for stream in (first, second):
                    await stream.until("stream.caught_up")
            before = calls(fresh_server)
            await append_events(bus, run, 1)

            async def still_read(before: int = before["xread"]) -> bool:
                """the run is watched still, just after its last viewer left"""
                return calls(fresh_server)["xread"] > before

            await eventually(still_read, seconds=1.5)

        async def left_alone() -> bool:
            """the gateway has stopped reading the run"""
            reads = calls(fresh_server)["xread"]
            await append_events(bus, run, 1)
            await asyncio.sleep(0.1)
            return calls(fresh_server)["xread"] == reads

        await eventually(left_alone, seconds=5)
        before, sent_before = calls(fresh_server), await sent_to_others(bus)
        await publish(bus, run)
        assert (calls(fresh_server) - before)["xread"] == 0
        assert await sent_to_others(bus) - sent_before < MOST_OTHER_BYTES
        # And who comes back gets all of it.
        async with open_stream(url, run) as stream:
            got = await stream.until("stream.caught_up")
        assert len(ids_of(got)) >= EVENTS


async def publish(bus: Bus, run: str) -> int:
    """For about a second, in small batches."""
    publisher = bus.publisher(run)
    for number in range(EVENTS):
        await publisher.emit("custom.large", {"text": "x" * 500})
        if number % 10 == 0:
            await asyncio.sleep(0.05)
    await publisher.aclose()
    return EVENTS


async def sent_to_others(bus: Bus) -> int:
    return sum(client.sent_bytes for client in (await clients_of_others(bus)).values())
