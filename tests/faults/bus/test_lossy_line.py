"""Replies that get lost, connections that are cut, silence: what was emitted is in the log once, and in order."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tailrace.bus import Bus, Entry, Gap, PublishFailedError, open_bus
from tests.faults.bus.lossy_proxy import Fate, LossyProxy
from tests.integration.bus.follower import Follower
from tests.patience import stretched
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio


async def events_of(bus: Bus, run: str) -> list[Any]:
    async with Follower(bus, run) as follower:
        await follower.end()
        assert follower.gaps == []
        return [entry.data for entry in follower.entries if entry.type == "a"]


def now_and_then(chance: random.Random, *fates: Fate, one_in: int) -> Any:
    return lambda _: chance.choice(fates) if chance.randrange(one_in) == 0 else "pass"


@pytest.mark.parametrize("seed", range(4))
async def test_case_11_each_event_is_in_the_log_once_and_in_order_over_a_line_that_is_cut_at_random(
    proxy: LossyProxy, direct_bus: Bus, seed: int
) -> None:
    chance = random.Random(seed)
    runs = [f"run{i}" for i in range(5)]

    async def publish(bus: Bus, run: str) -> None:
        publisher = bus.publisher(run)
        number = 0
        while number < 400 or proxy.cuts < 12:
            await publisher.emit("a", number)
            number += 1
            if number % 10 == 0:
                await asyncio.sleep(chance.random() * 0.004)
        await publisher.append("execution.completed")
        await publisher.aclose()
        emitted[run] = number

    emitted: dict[str, int] = {}
    async with await open_bus(proxy.url) as bus:
        proxy.request = now_and_then(chance, "cut before", "cut after", one_in=12)
        proxy.reply = now_and_then(chance, "cut before", "cut after", one_in=12)
        await asyncio.gather(*(publish(bus, run) for run in runs))
        proxy.request = proxy.reply = lambda _: "pass"
    for run in runs:
        assert await events_of(direct_bus, run) == list(range(emitted[run]))
    assert bus.counters["append_retries"] > 0


async def test_case_11_replies_that_are_swallowed_in_silence_cost_seconds_and_no_event(
    proxy: LossyProxy, direct_bus: Bus
) -> None:
    async with await open_bus(proxy.url) as bus:
        publisher = bus.publisher("run")
        await publisher.append("a", 0)
        swallowed: Iterator[Fate] = iter(["swallow"])
        proxy.reply = lambda _: next(swallowed, "pass")
        for number in range(1, 100):
            await publisher.emit("a", number)
        started = time.monotonic()
        await publisher.append("execution.completed")
        assert 4 < time.monotonic() - started < stretched(12)
        await publisher.aclose()
    assert await events_of(direct_bus, "run") == list(range(100))


async def test_a_reader_over_a_line_that_is_cut_at_random_gets_exactly_the_log(
    proxy: LossyProxy, direct_bus: Bus
) -> None:
    chance = random.Random(7)
    async with await open_bus(proxy.url) as bus, Follower(bus, "run") as follower, Follower(bus, "other") as other:
        publishers = [direct_bus.publisher(run) for run in ("run", "other")]
        number = 0
        while number < 1000 or proxy.cuts < 8:
            for publisher in publishers:
                await publisher.emit("a", number)
            number += 1
            if number % 10 == 0:
                await asyncio.sleep(0.004)
            if number == 100:
                # Live by now: replaying, a reader is told of the lost connection instead.
                await follower.until(lambda f: len(f.entries) > 50)
                await other.until(lambda f: len(f.entries) > 50)
                proxy.reply = now_and_then(chance, "cut before", "cut after", one_in=40)
        for publisher in publishers:
            await publisher.append("execution.completed")
            await publisher.aclose()
        proxy.reply = lambda _: "pass"
        for reader in (follower, other):
            await reader.end(seconds=20)
            assert [item.data for item in reader.items if isinstance(item, Entry)] == [*range(number), None]
            assert not any(isinstance(item, Gap) for item in reader.items)


async def test_redis_away_for_good_is_told_with_the_true_reason_in_bounded_time(
    proxy: LossyProxy, tcp_server: RunningServer
) -> None:
    async with await open_bus(proxy.url) as bus:
        publisher = bus.publisher("run", give_up_after_seconds=1.0)
        await publisher.append("a", 0)
        await asyncio.to_thread(tcp_server.kill)
        for number in range(50):
            await publisher.emit("a", number)
        started = time.monotonic()
        with pytest.raises(PublishFailedError, match=r"(?i)connect|refused|closed|reset|lost") as caught:
            await publisher.flush()
        # One attempt may itself wait for a connection; no attempt is begun after the time has passed.
        assert time.monotonic() - started < stretched(1.0 + 5.0 + 2.0)
        assert caught.value.lost_events == 50
        assert bus.counters["publish_lost_events"] == 50
        with pytest.raises(PublishFailedError):
            await publisher.emit("a")


async def test_redis_away_for_a_while_slows_a_pipeline_that_fills_its_buffer_and_loses_nothing(
    proxy: LossyProxy, direct_bus: Bus
) -> None:
    async with await open_bus(proxy.url) as bus:
        publisher = bus.publisher("run", max_buffered_events=50)
        await publisher.append("a", 0)
        proxy.request = lambda _: "cut before"
        proxy.cut_all()

        async def pipeline() -> None:
            for number in range(1, 500):
                await publisher.emit("a", number)

        emitting = asyncio.create_task(pipeline())
        await asyncio.sleep(0.5)
        assert not emitting.done()
        assert publisher._outbox.held_events == 50
        proxy.request = lambda _: "pass"
        await emitting
        await publisher.append("execution.completed")
        await publisher.aclose()
    assert await events_of(direct_bus, "run") == list(range(500))


async def test_a_run_keeps_its_lease_over_a_line_that_is_cut_again_and_again(
    proxy: LossyProxy, direct_bus: Bus
) -> None:
    async with await open_bus(proxy.url) as bus:
        bus.leases.lease_seconds = 1.0
        async with bus.execution("run") as execution:
            for number in range(20):
                await execution.emit("a", number)
                await asyncio.sleep(0.1)
                if number % 4 == 0:
                    proxy.cut_all()
    assert await events_of(direct_bus, "run") == list(range(20))
    assert bus.counters["leases_lost"] == 0


async def test_case_21_a_cancelled_command_leaves_the_connection_in_step(direct_bus: Bus) -> None:
    chance = random.Random(3)

    async def ask(number: int) -> None:
        for turn in range(30):
            wanted = f"{number}:{turn}".encode()
            asking = asyncio.ensure_future(direct_bus.commands.command("ECHO", wanted))
            if chance.random() < 0.5:
                await asyncio.sleep(0)
                asking.cancel()
                await asyncio.wait([asking])
            else:
                assert await asking == wanted

    await asyncio.gather(*(ask(number) for number in range(50)))
    assert await direct_bus.commands.command("ECHO", "last") == b"last"
