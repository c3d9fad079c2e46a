"""Connections that both sides believe in and that carry nothing: found in seconds, made again, nothing lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from tailrace.bus import open_bus
from tailrace.bus.deployment import Standalone
from tailrace.bus.log.publisher import Publisher
from tailrace.bus.model.counters import Counters
from tailrace.bus.redis.address import dial_of
from tests.e2e.waiting import eventually
from tests.faults.tail.following import Following, following
from tests.faults.tail.proxy import proxy
from tests.patience import stretched
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

# PING after two seconds of silence, five seconds in all, a look every half, a reconnect; and a noisy machine.
FOUND_SECONDS = 7.0


async def found_within(counters: Counters, *lines: str) -> float:
    """Wait until each of these lines has given its connection up; gives how many seconds that took."""

    async def given_up() -> bool:
        """the half-open connections were given up"""
        return all(counters[f"{line}_disconnects"] for line in lines)

    begun = asyncio.get_running_loop().time()
    await eventually(given_up)
    took = asyncio.get_running_loop().time() - begun
    assert took <= stretched(FOUND_SECONDS)
    return took


@asynccontextmanager
async def ticking(publisher: Publisher) -> AsyncGenerator[None, None]:
    """Publish ``{"k": 0}``, … all the while, and the ending on leaving."""

    emitted = 0

    async def tick() -> None:
        nonlocal emitted
        while True:
            await publisher.emit("custom.counted", {"k": emitted})
            emitted += 1
            await asyncio.sleep(0.01)

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
    await publisher.append("execution.completed", {"k": emitted})
    await publisher.aclose()


def assert_whole(got: Following) -> None:
    assert got.gaps == []
    assert got.numbers == list(range(1, len(got.numbers) + 1))
    assert [data["k"] for data in got.data] == list(range(len(got.numbers)))


async def reached_more(got: Following) -> None:
    await got.reached(len(got.numbers) + 50, seconds=15)


async def test_case_22_connections_that_carry_nothing_any_more_are_found_and_made_again(
    fresh_server: RunningServer, run: str
) -> None:
    """Source: vexa 267, broadcaster 144. A firewall forgets the publisher's and the reader's connections."""
    async with (
        proxy(fresh_server) as network,
        await open_bus(network.url) as bus,
        following(bus.log, await bus.tail(), run) as got,
        ticking(bus.publisher(run)),
    ):
        await reached_more(got)
        assert network.swallow() == 2
        print(f"found after {await found_within(bus.counters, 'redis', 'tail'):.1f} s")
        await reached_more(got)
    assert_whole(got)
    assert bus.counters["append_retries"] > 0


async def test_case_22_a_redis_that_hangs_is_given_up_and_found_again_when_it_answers(
    fresh_server: RunningServer, run: str
) -> None:
    """Source: vexa 267: stalled for 10.5 hours. The kernel still takes what is sent; nobody reads it."""
    async with (
        await open_bus(fresh_server.url) as bus,
        following(bus.log, await bus.tail(), run) as got,
        ticking(bus.publisher(run)),
    ):
        await reached_more(got)
        fresh_server.pause()
        try:
            print(f"found after {await found_within(bus.counters, 'redis', 'tail'):.1f} s")
        finally:
            fresh_server.resume()
        await reached_more(got)
    assert_whole(got)


async def test_case_22_a_tail_whose_connection_alone_is_dead_is_found_though_nobody_asks_it_anything(
    fresh_server: RunningServer, run: str
) -> None:
    """Source: vexa 267. No command is under way, and no news is what a quiet run looks like: only a PING can tell."""
    counters = Counters()
    async with proxy(fresh_server) as network, await open_bus(fresh_server.url) as bus:
        tail = await Standalone(dial_of(network.url), counters).open_tail(bus.commands, "tracking")
        try:
            async with following(bus.log, tail, run) as got:
                publisher = bus.publisher(run)
                for number in range(3):
                    # The last of them at least comes by the tail, which then has nothing under way.
                    await publisher.append("custom.counted", {"k": number})
                    await got.reached(number + 1, seconds=5)
                assert network.swallow() == 1
                await publisher.append("custom.counted", {"k": 3})
                await found_within(counters, "tail")
                await got.reached(4, seconds=2)
                await publisher.append("execution.completed", {"k": 4})
        finally:
            await tail.aclose()
        await publisher.aclose()
    assert_whole(got)
    assert bus.counters["redis_disconnects"] == 0
