"""Workers that are killed, frozen, blocked or deaf: their runs go on elsewhere, and nothing of theirs follows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack

import pytest

from tailrace.bus import Bus, BusSettings, open_bus
from tests.e2e.followers import Follower as HttpFollower
from tests.faults.healing.story import names_of
from tests.faults.workers.conftest import BUDGET_SECONDS, LEASE_SECONDS, SCHEDULING_SECONDS
from tests.faults.workers.verdict import check_frames, check_run, takeover_seconds
from tests.faults.workers.working import Order, WorkerProcess
from tests.integration.bus.follower import Follower
from tests.integration.gateway.live import GatewayProcess
from tests.patience import patient, stretched
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 60.0
Start = Callable[..., WorkerProcess]


@pytest.fixture
async def start(server_url: str, prefix: str) -> AsyncIterator[Start]:
    """Starts workers; all are dead in the end."""
    with ExitStack() as stack:

        def started(**order: object) -> WorkerProcess:
            given = {"redis_url": server_url, "prefix": prefix, "lease_seconds": LEASE_SECONDS, **order}
            return stack.enter_context(WorkerProcess(Order.model_validate(given)))

        yield started


def counted(events: int) -> Callable[[Follower], bool]:
    return lambda follower: follower.types.count("custom.counted") >= events


async def two_workers(start: Start) -> tuple[WorkerProcess, WorkerProcess]:
    workers = start(), start()
    for worker in workers:
        await worker.until_ready()
    return workers


async def owner_first(bus: Bus, run: str, *workers: WorkerProcess) -> list[WorkerProcess]:
    state = await bus.state(run)
    return sorted(workers, key=lambda worker: not worker.runs(state))


async def test_a_worker_killed_in_the_middle_of_a_step_is_replaced_and_the_step_is_done_again(
    bus: Bus, start: Start
) -> None:
    workers = await two_workers(start)
    run = await bus.submit("count", {"events": 10})
    async with Follower(bus, run) as follower:
        await follower.until(counted(15), seconds=PATIENCE_SECONDS)
        victim, _ = await owner_first(bus, run, *workers)
        died = victim.kill()
        await follower.end(seconds=PATIENCE_SECONDS)
    log = await check_run(bus, run, follower.items)
    took = takeover_seconds(log, died)
    print(f"from a worker's death to the next attempt: {took:.2f} s of {BUDGET_SECONDS:.2f} s")
    assert took <= stretched(BUDGET_SECONDS + SCHEDULING_SECONDS)
    assert names_of(log) == ["queued", "started", "retrying", "started", "completed"]
    # The first step was done, and is not done again.
    assert [entry.step for entry in log if entry.type == "step.skipped"] == ["one"]
    assert [entry.step for entry in log if entry.type == "step.completed"] == ["one", "two", "three"]


async def test_case_11_a_worker_killed_while_its_append_is_under_way_has_appended_it_once_or_not_at_all(
    fresh_server: RunningServer, settings: BusSettings, start: Start
) -> None:
    """Redis stands still, so that an append is certainly under way, and reads it when its sender is dead."""
    async with await open_bus(fresh_server.url, settings=settings) as bus:
        victim = start(redis_url=fresh_server.url)
        await victim.until_ready()
        run = await bus.submit("count", {"events": 200, "pause_seconds": 0.002})
        async with Follower(bus, run) as follower:
            await follower.until(counted(50), seconds=PATIENCE_SECONDS)
            fresh_server.pause()
            # Several events are emitted, and one append is waiting for its reply.
            await asyncio.sleep(0.2)
            victim.kill()
            fresh_server.resume()
            start(redis_url=fresh_server.url)
            await follower.end(seconds=PATIENCE_SECONDS)
        log = await check_run(bus, run, follower.items)
    assert names_of(log) == ["queued", "started", "retrying", "started", "completed"]


async def test_a_worker_killed_between_claiming_and_starting_loses_no_job_and_costs_no_attempt(
    bus: Bus, start: Start
) -> None:
    victim = start(dies="claimed")
    await victim.until_ready()
    runs = [await bus.submit("count", {"events": 3}) for _ in range(5)]
    await victim.until_dead()
    start()
    for run in runs:
        async with Follower(bus, run) as follower:
            await follower.end(seconds=PATIENCE_SECONDS)
        log = await check_run(bus, run, follower.items)
        assert names_of(log) == ["queued", "started", "completed"]
        assert [entry.data["attempt"] for entry in log if entry.type == "execution.started"] == [1]


async def test_case_10_a_frozen_worker_that_wakes_after_its_lease_appends_nothing_more(bus: Bus, start: Start) -> None:
    workers = await two_workers(start)
    run = await bus.submit("count", {"events": 60, "pause_seconds": 0.02})
    async with Follower(bus, run) as follower:
        await follower.until(counted(10), seconds=PATIENCE_SECONDS)
        zombie, other = await owner_first(bus, run, *workers)
        zombie.freeze()
        await follower.until(lambda f: f.types.count("execution.started") == 2, seconds=PATIENCE_SECONDS)
        # It finds out while the other is in the middle of it.
        zombie.thaw()
        await follower.end(seconds=PATIENCE_SECONDS)
    other.kill()
    # It lives, has let go of that run, and takes others.
    following = await bus.submit("count", {"events": 3})
    async with Follower(bus, following) as second:
        await second.end(seconds=PATIENCE_SECONDS)
    log = await check_run(bus, run, follower.items)
    assert names_of(log) == ["queued", "started", "retrying", "started", "completed"]
    assert {entry.data["pid"] for entry in await check_run(bus, following) if entry.type == "custom.counted"} == {
        zombie.pid
    }


@pytest.mark.slow
async def test_case_07_with_all_workers_dead_the_viewers_are_told_and_see_it_go_on_when_one_comes(
    bus: Bus, start: Start, server_url: str, prefix: str
) -> None:
    gateways = [GatewayProcess(redis_url=server_url, prefix=prefix, lease_seconds=str(LEASE_SECONDS)) for _ in range(2)]
    with gateways[0], gateways[1]:
        urls = [await asyncio.to_thread(gateway.url) for gateway in gateways]
        workers = await two_workers(start)
        again = await bus.submit("count", {"events": 50, "pause_seconds": 0.05})
        never = await bus.submit("once", {"events": 1000, "pause_seconds": 0.05})
        followers = [
            HttpFollower(run, urls, random.Random(f"{run}{number}"), lambda _: None)
            for run in (again, never)
            for number in range(3)
        ]
        following = [asyncio.create_task(each.follow()) for each in followers]
        async with asyncio.timeout(patient(PATIENCE_SECONDS)):
            while min(len(each.events) for each in followers) < 10:  # noqa: ASYNC110 - they set no event of ours
                await asyncio.sleep(0.01)
        died = min([worker.kill() for worker in workers])
        async with asyncio.timeout(patient(PATIENCE_SECONDS)):
            await asyncio.gather(*following[3:])
        log = await check_run(bus, never)
        took = log[-1].cursor.ms / 1000 - died
        print(f"from the death of all workers to the truth: {took:.2f} s of {BUDGET_SECONDS:.2f} s")
        assert took <= stretched(BUDGET_SECONDS + SCHEDULING_SECONDS)
        assert (log[-1].type, log[-1].data["reason"]) == ("execution.failed", "worker_lost")
        assert all(each.events[-1][1] != "execution.completed" for each in followers)
        start()
        async with asyncio.timeout(patient(PATIENCE_SECONDS)):
            await asyncio.gather(*following[:3])
        logs = {str(run): await check_run(bus, run) for run in (again, never)}
    assert names_of(logs[again]) == ["queued", "started", "retrying", "started", "completed"]
    for each in followers:
        assert each.gaps == []
        check_frames(logs[each.run], each.events)
    (letter,) = await bus.dead_letters.list("default")
    assert (letter.execution_id, letter.reason, letter.pipeline) == (never, "worker_lost", "once")


async def test_a_step_that_blocks_the_event_loop_for_longer_than_the_lease_keeps_its_execution(
    bus: Bus, start: Start
) -> None:
    workers = await two_workers(start)
    run = await bus.submit("block", {"events": 50, "pause_seconds": 0.05, "block_seconds": LEASE_SECONDS * 2.5})
    async with Follower(bus, run) as follower:
        await follower.until(counted(1), seconds=PATIENCE_SECONDS)
        blocked, _ = await owner_first(bus, run, *workers)
        await follower.end(seconds=PATIENCE_SECONDS)
    log = await check_run(bus, run, follower.items)
    assert names_of(log) == ["queued", "started", "completed"]
    assert {entry.data["pid"] for entry in log if entry.type == "custom.counted"} == {blocked.pid}


async def test_a_step_that_ignores_its_cancellation_is_ended_without_it_and_its_place_is_given_to_another(
    bus: Bus, start: Start
) -> None:
    worker = start(concurrency=1)
    await worker.until_ready()
    run = await bus.submit("ignore", {})
    async with Follower(bus, run) as follower:
        await follower.until(counted(5), seconds=PATIENCE_SECONDS)
        await bus.control.cancel(run, by="ann", grace_seconds=0.5)
        await follower.end(seconds=PATIENCE_SECONDS)
    following = await bus.submit("count", {"events": 3})
    async with Follower(bus, following) as second:
        await second.end(seconds=PATIENCE_SECONDS)
    log = await check_run(bus, run, follower.items)
    assert log[-1].type == "execution.cancelled"
    assert log[-1].data["forced"] is True
    assert (await check_run(bus, following))[-1].type == "execution.completed"


async def test_a_step_that_ignores_that_its_run_was_taken_over_gives_its_place_to_another(
    bus: Bus, start: Start
) -> None:
    deaf = start(concurrency=1)
    await deaf.until_ready()
    run = await bus.submit("ignore", {})
    async with Follower(bus, run) as follower:
        await follower.until(counted(5), seconds=PATIENCE_SECONDS)
        deaf.freeze()
        other = start(concurrency=1)
        await follower.until(lambda f: f.types.count("execution.started") == 2, seconds=PATIENCE_SECONDS)
        deaf.thaw()
        following = await bus.submit("count", {"events": 3})
        async with Follower(bus, following) as second:
            await second.end(seconds=PATIENCE_SECONDS)
        await bus.control.cancel(run, grace_seconds=0.5)
        await follower.end(seconds=PATIENCE_SECONDS)
    log = await check_run(bus, run, follower.items)
    assert names_of(log) == ["queued", "started", "retrying", "started", "cancel_requested", "cancelled"]
    done_by = {entry.data["pid"] for entry in await check_run(bus, following) if entry.type == "custom.counted"}
    assert done_by == {deaf.pid}
    assert other.pid not in done_by


async def test_a_poison_job_kills_so_many_workers_as_it_may_and_is_put_aside_with_the_reason(
    bus: Bus, start: Start
) -> None:
    run = await bus.submit("poison", {})
    async with Follower(bus, run) as follower:
        for _ in range(3):
            victim = start()
            await victim.until_ready()
            await victim.until_dead()
        await start().until_ready()
        await follower.end(seconds=PATIENCE_SECONDS)
    log = await check_run(bus, run, follower.items)
    assert names_of(log) == [
        "queued", "started", "retrying", "started", "retrying", "started", "failed",
    ]  # fmt: skip
    assert (log[-1].data["reason"], log[-1].data["attempts"]) == ("worker_lost", 3)
    async with asyncio.timeout(patient(PATIENCE_SECONDS)):
        while not (letters := await bus.dead_letters.list("default")):  # noqa: ASYNC110 - it is written after the event
            await asyncio.sleep(0.01)
    assert [(letter.execution_id, letter.reason, letter.attempts) for letter in letters] == [(run, "worker_lost", 3)]
    # It has hurt nobody else.
    following = await bus.submit("count", {"events": 3})
    async with Follower(bus, following) as second:
        await second.end(seconds=PATIENCE_SECONDS)
    assert (await check_run(bus, following))[-1].type == "execution.completed"


async def test_runs_survive_a_redis_that_dies_and_comes_back_with_its_data(
    fresh_server: RunningServer, settings: BusSettings, start: Start
) -> None:
    async with await open_bus(fresh_server.url, settings=settings) as bus:
        workers = [start(redis_url=fresh_server.url) for _ in range(2)]
        for worker in workers:
            await worker.until_ready()
        runs = [await bus.submit("stubborn", {"events": 100, "pause_seconds": 0.02}) for _ in range(6)]
        followers = [Follower(bus, run) for run in runs]
        try:
            for follower in followers:
                await follower.until(counted(20), seconds=PATIENCE_SECONDS)
            await asyncio.to_thread(fresh_server.kill)
            await asyncio.sleep(LEASE_SECONDS * 1.2)
            await asyncio.to_thread(fresh_server.start)
            for follower in followers:
                await follower.end(seconds=PATIENCE_SECONDS)
        finally:
            for follower in followers:
                follower.task.cancel()
        for run, follower in zip(runs, followers, strict=True):
            log = await check_run(bus, run, follower.items)
            assert log[-1].type == "execution.completed"
