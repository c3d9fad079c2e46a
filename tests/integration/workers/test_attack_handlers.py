"""Handlers around flushes, failovers and handlers that are slow to clean up."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tailrace.bus import Bus, BusSettings, open_bus
from tailrace.workers.handlers import Delivery
from tailrace.workers.handlers.reader import GroupReader
from tests.integration.workers.test_subscribers_follow import Seen, emit, following, group_exists, handlers_of
from tests.integration.workers.watching import until, until_true
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio


async def test_attack_23_what_runs_around_a_flush_is_handled_once_from_now_on_too(
    fresh_server: RunningServer, prefix: str
) -> None:
    seen = Seen()
    settings = BusSettings(prefix=prefix, lease_seconds=1.0)
    async with (
        await open_bus(fresh_server.url, settings=settings) as bus,
        following(bus, handlers_of(seen), since="now"),
        bus.execution("long") as long,
    ):
        await until_true(lambda: group_exists(bus))
        await long.append("custom.n", {"n": 0})
        await until(lambda: seen.numbers("long") == [0])
        await bus.commands.command("FLUSHALL")
        # Runs and ends before the reader has noticed.
        await emit(bus, "short")
        await long.append("custom.n", {"n": 1})
        await long.complete()
        await until(seen.ended("short", "long"))
    assert seen.numbers("short") == [0, 1, 2]
    told = [(event.data["n"], event.repeated) for event in seen.by_run["long"] if event.type == "custom.n"]
    once = [number for number, repeated in told if not repeated]
    assert once == sorted(set(once)), told
    assert {number for number, _ in told} == {0, 1}


async def test_attack_24_an_execution_that_was_away_for_a_moment_is_followed_again(bus: Bus) -> None:
    seen = Seen()
    reader = GroupReader(bus, "billing", handlers_of(seen).handle)
    keys = (bus.keys.log("run"), bus.keys.meta("run"))
    running = asyncio.create_task(reader.run())
    async with bus.execution("run") as execution:
        await execution.append("custom.n", {"n": 0})
        await until(lambda: seen.numbers("run") == [0])
        # As during a failover, to a replica that has not come so far.
        for key in keys:
            await bus.commands.command("RENAME", key, f"{key}:away")
        reader._readings["run"].gone()
        await until(lambda: "run" not in reader._readings)
        for key in keys:
            await bus.commands.command("RENAME", f"{key}:away", key)
        await execution.append("custom.n", {"n": 1})
        await execution.complete()
        await until(seen.ended("run"))
    running.cancel()
    await asyncio.wait([running])
    assert seen.numbers("run") == [0, 1]


async def test_attack_24_an_execution_goes_on_behind_an_ending_that_a_failover_took_back(bus: Bus) -> None:
    seen = Seen()
    async with following(bus, handlers_of(seen)):
        async with bus.execution("run") as execution:
            await execution.append("custom.n", {"n": 0})
            state = await bus.commands.command("DUMP", bus.keys.meta("run"))
            log = await bus.commands.command("DUMP", bus.keys.log("run"))
            await execution.complete()
        await until(seen.ended("run"))
        bookmark = bus.keys.bookmark("run", "billing")
        await until_true(lambda: bus.commands.command("HEXISTS", bookmark, "ended"))
        await bus.commands.command("RESTORE", bus.keys.meta("run"), 0, state, "REPLACE")
        await bus.commands.command("RESTORE", bus.keys.log("run"), 0, log, "REPLACE")
        publisher = bus.publisher("run", fence=execution.fence)
        await publisher.append("custom.n", {"n": 1})
        await publisher.append("execution.failed", {"reason": "late", "message": "after all"})
        await until(lambda: "execution.failed" in seen.types("run"))
    assert seen.numbers("run") == [0, 1]


async def test_attack_25_a_handler_that_is_slow_to_clean_up_costs_its_reader_no_other_execution(bus: Bus) -> None:
    lost, cleaned = asyncio.Event(), asyncio.Event()
    seen = Seen()

    async def handle(event: Delivery) -> None:
        if event.execution_id == "slow" and event.type == "custom.n":
            try:
                lost.set()
                await asyncio.Event().wait()
            finally:
                with contextlib.suppress(asyncio.CancelledError):
                    await cleaned.wait()
        else:
            await seen(event)

    reader = GroupReader(bus, "billing", handle)
    running = asyncio.create_task(reader.run())
    async with bus.execution("slow") as slow, bus.execution("other") as other:
        await slow.append("custom.n", {"n": 0})
        await other.append("custom.n", {"n": 0})
        await lost.wait()
        await until(lambda: seen.numbers("other") == [0])
        await bus.commands.command("HSET", bus.keys.bookmark("slow", "billing"), "reader", "another", "until", 1)
        await until(lambda: bus.counters["handler_bookmarks_lost"] == 1)
        # The other's bookmark is renewed all the same.
        bookmark = bus.keys.bookmark("other", "billing")
        before = int(await bus.commands.command("HGET", bookmark, "until"))

        async def renewed() -> bool:
            return int(await bus.commands.command("HGET", bookmark, "until")) > before

        await until_true(renewed)
        cleaned.set()
    running.cancel()
    await asyncio.wait([running])
