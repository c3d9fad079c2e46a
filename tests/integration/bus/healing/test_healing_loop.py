"""What waits, what has ended, and what is due: the healer's rounds."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from tailrace.bus import Bus, BusSettings, open_bus
from tailrace.bus.errors import BusUnavailableError
from tailrace.bus.healing.healer import CLAIM_MS, JOB_CHECK_SECONDS, Healer
from tailrace.bus.ownership.gate import TakeOverGate
from tests.integration.bus.follower import Follower
from tests.integration.bus.healing.orphans import (
    DeadLetters,
    Jobs,
    append,
    begun,
    die,
    due_at,
    healer_of,
    now_ms,
    submitted,
    types,
)
from tests.patience import patient

pytestmark = pytest.mark.anyio


# What waits for a worker.


async def test_a_queued_one_whose_job_got_lost_is_queued_again(bus: Bus, healer: Healer, jobs: Jobs) -> None:
    await submitted(bus)
    await healer.heal("run")
    assert jobs.queued == ["run"]
    assert await types(bus) == ["queued"]
    due = await due_at(bus)
    assert due is not None
    assert due >= await now_ms(bus) + (JOB_CHECK_SECONDS - 2) * 1000


async def test_one_that_has_its_job_waits_on_and_is_looked_at_the_seldomer(
    bus: Bus, healer: Healer, jobs: Jobs
) -> None:
    await submitted(bus)
    jobs.present.add("run")
    await healer.heal("run")
    first = await due_at(bus)
    hour_ago = await now_ms(bus) - 3_600_000
    await bus.commands.command("HSET", bus.keys.meta("run"), "created", hour_ago)
    await healer.heal("run")
    later = await due_at(bus)
    assert not jobs.queued
    assert first is not None
    assert later is not None
    assert later > first + 60_000


# Endings.


async def test_an_ended_one_is_dropped_and_its_ending_told_to_those_who_watch_everything(
    bus: Bus, healer: Healer
) -> None:
    """Whoever ended it may have died before telling."""
    lease = await begun(bus)
    bus.log.on_lifecycle = None
    await append(bus, "run", "execution.completed", {"result": 1}, lease=lease)
    await die(bus)
    async with asyncio.timeout(patient(10)):
        changes = bus.activity.follow("0")
        await healer.heal("run")
        async for change in changes:
            if getattr(change, "type", "") == "execution.completed":
                break
        await changes.aclose()
    assert await due_at(bus) is None


async def test_a_dead_letter_that_a_dying_healer_did_not_write_is_written(
    bus: Bus, healer: Healer, dead_letters: DeadLetters
) -> None:
    await submitted(bus)
    await begun(bus)
    await die(bus)
    orphan = await bus.leases.heal("run", "dying healer")
    await append(bus, "run", "execution.failed", {"reason": "worker_lost", "message": "gone"}, lease=orphan.lease)
    await healer.heal("run")
    assert dead_letters.letters == [("run", "worker_lost", "gone")]


async def test_attack_26_an_ending_is_looked_at_until_those_who_watch_everything_can_see_it(
    bus: Bus, healer: Healer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the process ended between its decision and the activity, which it writes behind."""

    async def fail(_batch: object) -> None:
        raise BusUnavailableError("gone")

    await begun(bus, max_attempts=1)
    await die(bus)
    with monkeypatch.context() as patch:
        patch.setattr(bus.activity, "_write_batch", fail)
        assert await healer.heal("run") is not None
        with pytest.raises(BusUnavailableError):
            await healer.heal("run")
    assert await due_at(bus) is not None
    await healer.heal("run")
    assert await due_at(bus) is None
    changes = bus.activity.follow("0")
    async with asyncio.timeout(patient(10)), aclosing(changes):
        async for change in changes:
            if getattr(change, "type", "") == "execution.failed":
                break


async def test_an_ended_one_whose_log_is_gone_is_dropped(bus: Bus, healer: Healer) -> None:
    await append(bus, "run", "execution.completed", lease=await begun(bus))
    await bus.commands.command("DEL", bus.keys.log("run"))
    await die(bus)
    await healer.heal("run")
    assert await due_at(bus) is None


# The loop.


async def test_a_running_healer_finds_what_is_due(bus: Bus, healer: Healer) -> None:
    await begun(bus)
    async with healer.running(), Follower(bus, "run") as follower:
        await follower.until(lambda f: bool(f.entries))
        await die(bus)
        assert (await follower.end())[-1] == "execution.failed"


async def test_hundreds_of_orphans_are_healed_each_once_by_several_healers(bus: Bus) -> None:
    jobs = Jobs()
    runs = [f"run{i}" for i in range(300)]
    for run in runs:
        await submitted(bus, run)
        await begun(bus, run)
        await bus.commands.command("HSET", bus.keys.meta(run), "lease_until", 1)
    await bus.index.look_at_all(dict.fromkeys(runs, 1))
    healers = [healer_of(bus, jobs, name=f"h{i}") for i in range(3)]
    tasks = [asyncio.create_task(each.run()) for each in healers]
    async with asyncio.timeout(patient(20)):
        await jobs.until(len(runs))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert sorted(jobs.queued) == sorted(runs)
    for run in runs:
        assert await types(bus, run) == ["queued", "started", "retrying"]


async def test_one_broken_execution_does_not_keep_the_others_from_being_healed(bus: Bus, healer: Healer) -> None:
    await begun(bus)
    await die(bus)
    await bus.commands.command("SET", bus.keys.meta("broken"), "a string", "EX", 100)
    await bus.index.look_at_all({"broken": 1})
    async with healer.running(), Follower(bus, "run") as follower:
        await follower.end()
    assert bus.counters["heal_errors"] == 1
    assert await due_at(bus, "broken") is None


async def test_after_an_outage_owners_come_first(bus: Bus, healer: Healer) -> None:
    """While Redis was away nobody could renew, and nobody is healed for it."""
    lease = await begun(bus)
    await die(bus)
    healer._gate.close("Redis was away")
    assert not await healer._turn()
    await bus.leases.renew(lease)
    await asyncio.sleep(healer._gate.hold_seconds)
    assert not await healer._turn()
    assert await types(bus) == ["started"]
    assert bus.counters["heal_pauses"] == 1


async def test_without_an_outage_nobody_waits(bus: Bus, healer: Healer) -> None:
    await begun(bus)
    await die(bus)
    await healer._turn()
    assert await types(bus) == ["started", "failed"]
    assert bus.counters["heal_pauses"] == 0


async def test_a_connection_that_broke_closes_the_gate_only_when_it_took_a_quarter_of_a_lease(bus: Bus) -> None:
    def gate(lease_seconds: float) -> TakeOverGate:
        return TakeOverGate(bus.commands, bus.index, bus.counters, lease_seconds=lease_seconds)

    brief, long = gate(600), gate(0.0)
    assert await brief.is_open()
    assert await long.is_open()
    bus.counters.add("redis_disconnects")
    assert (await brief.is_open(), await long.is_open()) == (True, False)


async def test_a_healer_ends_with_its_bus(each_server_url: str, prefix: str) -> None:
    async with await open_bus(each_server_url, settings=BusSettings(prefix=prefix)) as bus:
        task = asyncio.create_task(bus.healer.run())
        await asyncio.sleep(0)
    async with asyncio.timeout(patient(10)):
        await task


async def test_what_a_healer_that_died_had_claimed_is_due_again_in_a_moment(bus: Bus, healer: Healer) -> None:
    await begun(bus)
    await die(bus)
    assert await bus.index.claim_due(10, CLAIM_MS) == ["run"]
    async with healer.running(), Follower(bus, "run") as follower:
        assert (await follower.end(seconds=CLAIM_MS / 1000 + 2))[-1] == "execution.failed"


# What is watched.


async def test_what_the_index_has_lost_is_healed_where_it_is_watched(bus: Bus, healer: Healer) -> None:
    for run in ("dead", "alive", "ended", "alone"):
        lease = await begun(bus, run)
        if run == "ended":
            await append(bus, run, "execution.completed", lease=lease)
    await bus.commands.command("HSET", bus.keys.meta("dead"), "lease_until", 1)
    await append(bus, "unowned", "execution.started")
    await submitted(bus, "waiting")
    await bus.commands.command("DEL", bus.keys.due())
    await healer.look_after(["dead", "alive", "ended", "unowned", "waiting", "absent"])
    assert await types(bus, "dead") == ["started", "failed"]
    assert await types(bus, "alive") == ["started"]
    indexed = await bus.commands.command("ZRANGE", bus.keys.due(), 0, -1)
    assert sorted(indexed) == [b"alive", b"waiting"]
