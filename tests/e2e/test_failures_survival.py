"""The failure cases about runs whose worker is gone: watched over a real gateway, with processes that are killed."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Iterator

import httpx
import pytest

from tailrace.bus import Bus, BusSettings, Execution, open_bus
from tests.e2e.logs import append_events, controls_of, ids_of, log_ids, names_of
from tests.e2e.sse_client import open_stream
from tests.e2e.sse_frames import Frame
from tests.e2e.waiting import eventually
from tests.faults.healing.owning import Order, OwnerProcess
from tests.faults.healing.story import check_story, read_story
from tests.integration.gateway.live import GatewayProcess
from tests.patience import patient, stretched
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

LEASE_SECONDS = 1.5
BUDGET_SECONDS = LEASE_SECONDS + 2.0


@pytest.fixture(scope="module")
def gateway(server_url: str, module_prefix: str) -> Iterator[GatewayProcess]:
    with GatewayProcess(
        redis_url=server_url, prefix=module_prefix, heartbeat_seconds="1", lease_seconds=str(LEASE_SECONDS)
    ) as process:
        yield process


@pytest.fixture
def order(server_url: str, module_prefix: str, run: str) -> Order:
    return Order(redis_url=server_url, prefix=module_prefix, runs=[run], lease_seconds=LEASE_SECONDS)


# 7 · deer-flow 3932


async def test_case_07_the_viewers_of_a_killed_worker_are_told_the_truth_in_time_though_no_worker_is_left(
    bus: Bus, gateway_url: str, order: Order, run: str
) -> None:
    with OwnerProcess(order) as owner:
        await owner.until(f"begun {run}")
        async with open_stream(gateway_url, run) as early, open_stream(gateway_url, run) as other:
            before = await early.until("custom.counted")
            owner.kill()
            died = time.monotonic()
            frames = before + await early.rest()
            took = time.monotonic() - died
            copies = [frames, await other.rest()]
    print(f"case 07: from death to the truth at the viewer: {took:.2f} s of {BUDGET_SECONDS:.2f} s")
    assert took <= stretched(BUDGET_SECONDS)
    ending, end = frames[-2:]
    assert (ending.name, end.name) == ("execution.failed", "stream.end")
    assert ending.payload["data"]["reason"] == "worker_lost"
    assert end.payload["status"] == "failed"
    ids = await log_ids(bus, run)
    assert [ids_of(copy) for copy in copies] == [ids, ids]
    check_story(await read_story(bus, run))


async def test_case_07_who_comes_after_it_is_told_at_once(bus: Bus, gateway_url: str, order: Order, run: str) -> None:
    with OwnerProcess(order) as owner:
        await owner.until(f"begun {run}")
        owner.kill()

    async def told() -> bool:
        """its state says that it failed"""
        state = await bus.state(run)
        return state is not None and state.status == "failed"

    await eventually(told, seconds=BUDGET_SECONDS + 1)
    async with open_stream(gateway_url, run) as stream:
        frames = await stream.rest(seconds=2)
    assert names_of(frames)[-2:] == ["execution.failed", "stream.end"]


async def test_case_07_a_worker_that_was_killed_in_the_middle_of_its_appends_leaves_a_whole_log(
    bus: Bus, gateway_url: str, order: Order, run: str
) -> None:
    order.runs = [f"{run}-{i}" for i in range(20)]
    with OwnerProcess(order) as owner:
        await owner.until(*(f"begun {each}" for each in order.runs))
        owner.kill()

        async def watch(each: str) -> list[str]:
            async with open_stream(gateway_url, each) as stream:
                return ids_of(await stream.rest())

        copies = await asyncio.gather(*(watch(each) for each in order.runs))
    for each, copy in zip(order.runs, copies, strict=True):
        check_story(await read_story(bus, each))
        assert copy == await log_ids(bus, each)


async def test_case_07_with_the_index_lost_too_the_gateway_heals_what_it_shows(
    bus: Bus, gateway_url: str, order: Order, run: str
) -> None:
    """Nobody is left to put it back; a gateway looks after what is quiet (every 15 s)."""
    with OwnerProcess(order) as owner:
        await owner.until(f"begun {run}")
        async with open_stream(gateway_url, run) as stream:
            await stream.until("custom.counted")
            owner.kill()
            await bus.commands.command("DEL", bus.keys.due())
            frames = await stream.rest(seconds=40)
    assert names_of(frames)[-2:] == ["execution.failed", "stream.end"]
    check_story(await read_story(bus, run))


# 9 · agentex 385, aegra 598, LibreChat 14059


async def test_case_09_every_key_of_a_run_outlives_a_pause_that_is_longer_than_its_retention(
    server_url: str, module_prefix: str, gateway_url: str, run: str
) -> None:
    settings = BusSettings(prefix=module_prefix, live_seconds=2, lease_seconds=1)
    async with await open_bus(server_url, settings=settings) as bus:
        async with bus.execution(run) as execution, open_stream(gateway_url, run) as stream:
            await bus.checkpoints.store(run, "fetch", b"\x01", fence=execution.fence)
            counting = asyncio.create_task(_count(execution))
            await bus.control.pause(run, by="ann")
            await stream.until("execution.paused")
            # Longer than the retention: what must not happen takes time.
            await asyncio.sleep(3.5)
            for key in bus.keys.of_execution(run):
                assert await bus.commands.command("EXISTS", key) == 1, key
            await bus.control.resume(run, by="ann")
            frames = [*await stream.until("execution.resumed"), *await stream.until("custom.counted")]
            counting.cancel()
            await asyncio.wait([counting])
        frames += await stream_rest(gateway_url, run, after=ids_of(frames)[-1])
        assert controls_of(frames, "stream.gap") == []
        check_story(await read_story(bus, run))


async def test_case_09_a_run_whose_worker_died_in_a_pause_waits_paused_for_the_next_and_is_not_taken_as_ended(
    bus: Bus, gateway_url: str, order: Order, run: str
) -> None:
    await bus.submit("any", {}, execution_id=run)
    with OwnerProcess(order) as owner:
        await owner.until(f"begun {run}")
        async with open_stream(gateway_url, run) as stream:
            await bus.control.pause(run, by="ann")
            await stream.until("execution.paused")
            owner.kill()
            frames = await stream.until("execution.retrying", seconds=BUDGET_SECONDS + 5)
            state = await bus.state(run)
            assert state is not None
            assert state.status == "paused"
            assert await bus.jobs.has_job(run)
            entering = asyncio.create_task(_run_once(bus, run))
            await stream.until("execution.started")
            await bus.control.resume(run, by="ann")
            frames += await stream.rest()
            await entering
    assert names_of(frames)[-2:] == ["execution.completed", "stream.end"]
    check_story(await read_story(bus, run))


# 10 · LibreChat 13117, assistant-ui 4840


async def test_case_10_the_next_attempt_goes_on_in_the_same_log_and_a_zombie_adds_nothing_to_it(
    bus: Bus, gateway_url: str, order: Order, run: str
) -> None:
    await bus.submit("any", {}, execution_id=run)
    with OwnerProcess(order) as zombie:
        await zombie.until(f"begun {run}")
        async with open_stream(gateway_url, run) as stream:
            frames = await stream.until("custom.counted")
            zombie.freeze()
            frames += await stream.until("execution.retrying", seconds=BUDGET_SECONDS + 5)
            async with bus.execution(run) as second:
                zombie.thaw()
                await zombie.until_over(run)
                for k in range(50):
                    # The same numbers again: they are the attempt's own.
                    await second.emit("custom.counted", {"attempt": second.attempt, "k": k})
            frames += await stream.rest()
    entries = await read_story(bus, run)
    check_story(entries)
    assert ids_of(frames) == [entry.id for entry in entries]
    attempts = [entry.data["attempt"] for entry in entries if entry.type == "custom.counted"]
    assert attempts == sorted(attempts)
    assert attempts.count(2) == 50
    told = [entry.data["attempt"] for entry in entries if entry.type == "execution.started"]
    assert told == [1, 2]


# 18 · jac 7696, multica 7226


async def test_case_18_a_server_that_may_evict_is_warned_of_at_the_start(fresh_server: RunningServer) -> None:
    async with await open_bus(fresh_server.url) as bus:
        await bus.commands.command("CONFIG", "SET", "maxmemory", "100mb")
        await bus.commands.command("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
    with GatewayProcess(redis_url=fresh_server.url) as gateway:
        url = await asyncio.to_thread(gateway.url)
        async with httpx.AsyncClient(base_url=url) as client:
            metrics = (await client.get("/metrics")).text
        assert "tailrace_eviction_risks_total 1.0" in metrics
    assert any("maxmemory-policy volatile-lru" in line for line in gateway.errors), gateway.errors


@pytest.mark.parametrize("owned", [True, False], ids=["while it is held", "while nobody holds it"])
async def test_case_18_a_quiet_live_log_that_is_evicted_is_a_gap_and_the_run_goes_on(
    fresh_server: RunningServer, run: str, owned: bool
) -> None:
    async with await open_bus(fresh_server.url, settings=BusSettings(lease_seconds=LEASE_SECONDS)) as bus:
        await bus.commands.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        await bus.commands.command("CONFIG", "SET", "maxmemory-samples", 10)
        with GatewayProcess(redis_url=fresh_server.url) as gateway:
            url = await asyncio.to_thread(gateway.url)
            execution = bus.execution(run)
            if owned:
                await execution.__aenter__()
            old = await append_events(bus, run, 20)
            async with open_stream(url, run) as stream:
                await stream.until("stream.caught_up")
                await _evict(bus, run)
                gap = await stream.until("stream.gap", seconds=30)
                new = (await append_events(bus, run, 3, first=20))[-3:]
                live = await stream.until_true(lambda frame: frame.id == new[-1])
            async with open_stream(url, run, after=old[4]) as late:
                again = await late.until_true(lambda frame: frame.id == new[-1])
            if owned:
                await execution.__aexit__(None, None, None)
                assert names_of(await stream_rest(url, run, after=new[-1]))[-2:] == [
                    "execution.completed",
                    "stream.end",
                ]
    assert ids_of(gap) == []
    assert gap[-1].id is None
    assert gap[-1].payload["requested"] == old[-1]
    assert [frame for frame in ids_of(live) if frame in new] == new
    # Who was behind is told before anything else.
    assert names_of(again)[1] == "stream.gap"
    assert ids_of(again)[-3:] == new
    assert not set(new) & set(old)


async def _evict(bus: Bus, run: str) -> None:
    """Fill the memory with other things until Redis has thrown the log away, which nobody has touched for longest."""
    info = (await bus.commands.command("INFO", "memory")).decode()
    used = int(next(line for line in info.splitlines() if line.startswith("used_memory:")).partition(":")[2])
    await bus.commands.command("CONFIG", "SET", "maxmemory", used + 2**20)
    async with asyncio.timeout(patient(30)):
        for index in itertools.count():
            await bus.commands.command("SET", f"junk:{index}", os.urandom(10_000), "EX", 600)
            if not await bus.commands.command("EXISTS", bus.keys.log(run)):
                break
    # Enough is enough: what is written from now on stays.
    await bus.commands.command("CONFIG", "SET", "maxmemory", 0)


async def _count(execution: Execution) -> None:
    for k in itertools.count():
        await execution.append("custom.counted", {"k": k})
        await asyncio.sleep(0.02)


async def _run_once(bus: Bus, run: str) -> None:
    async with bus.execution(run) as execution:
        await execution.append("custom.counted", {"attempt": execution.attempt, "k": "resumed"})


async def stream_rest(url: str, run: str, *, after: str) -> list[Frame]:
    async with open_stream(url, run, after=after) as stream:
        return await stream.rest()
