"""Jobs that must not be lost: delays, stops, flushes, and pipelines that raise before they begin."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pydantic import BaseModel, field_validator

from tailrace.bus import Bus, BusSettings, ConcurrencyConflictError, Entry, open_bus
from tailrace.workers import Context, Pipeline, Registry, Step, Worker, WorkerSettings
from tests.integration.workers.watching import run, watch, working
from tests.patience import patient
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

DAY = 24 * 3600


class Broken(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def look_up(cls, n: int) -> int:
        if n == 2:
            raise SystemExit(3)
        return {1: 1}[n]


async def nothing(_ctx: Context) -> None:
    pass


async def test_attack_18_a_signal_to_a_job_that_waits_for_days_does_not_shorten_its_life(bus: Bus) -> None:
    execution_id = await bus.submit("say", {}, delay_seconds=7 * DAY)
    await bus.control.signal(execution_id, "go")
    keys = [bus.keys.log(execution_id), bus.keys.meta(execution_id), bus.keys.control(execution_id)]
    ttls = [int(await bus.commands.command("TTL", key)) for key in keys]
    assert min(ttls) > 7 * DAY


async def test_attack_19_what_waits_keeps_the_slot_of_its_concurrency_key(bus: Bus) -> None:
    first = await bus.submit("say", {}, concurrency_key="k", delay_seconds=31 * DAY)
    key = bus.keys.concurrency(None, hashlib.sha256(b"k").hexdigest()[:32])
    assert int(await bus.commands.command("TTL", key)) > 31 * DAY
    # Long in a queue: each look of a healer keeps it.
    await bus.commands.command("EXPIRE", key, 1)
    assert await bus.jobs.has_job(first)
    assert int(await bus.commands.command("TTL", key)) > DAY
    with pytest.raises(ConcurrencyConflictError):
        await bus.submit("say", {}, concurrency_key="k")


@pytest.mark.parametrize(("n", "raised"), [(7, "KeyError: 7"), (2, "SystemExit: 3")])
async def test_attack_20_what_raises_while_a_pipeline_is_planned_ends_in_a_failure_with_its_place(
    bus: Bus, n: int, raised: str
) -> None:
    registry = Registry([Pipeline("broken", (Step("nothing", nothing),), input_model=Broken)])
    async with working(bus, registry):
        last = (await run(bus, "broken", {"n": n}))[-1]
    assert (last.type, last.data["reason"]) == ("execution.failed", "planning_failed")
    assert raised in last.data["message"]
    assert last.data["place"].startswith("test_attack_jobs.py:")


@asynccontextmanager
async def opened(server: RunningServer, prefix: str) -> AsyncIterator[Bus]:
    async with await open_bus(server.url, settings=BusSettings(prefix=prefix, lease_seconds=1.0)) as bus:
        yield bus


async def test_attack_21_a_step_that_fails_after_a_flush_ends_its_execution_though_it_has_retries(
    fresh_server: RunningServer, prefix: str
) -> None:
    begun, flushed = asyncio.Event(), asyncio.Event()

    async def fail(_ctx: Context) -> None:
        begun.set()
        await flushed.wait()
        raise ConnectionError("the model hung up")

    registry = Registry([Pipeline("failing", (Step("fail", fail),), retries=3, retry_delay_seconds=0.01)])
    async with opened(fresh_server, prefix) as bus, working(bus, registry):
        execution_id = await bus.submit("failing", {})
        await begun.wait()
        await bus.commands.command("FLUSHALL")
        flushed.set()
        async with asyncio.timeout(patient(30)):
            async for item in bus.follow(execution_id):
                last = item
    assert isinstance(last, Entry)
    assert (last.type, last.data["message"]) == ("execution.failed", "the model hung up")


async def test_attack_21_what_was_never_submitted_and_is_handed_back_ends_when_no_program_takes_it(bus: Bus) -> None:
    async with bus.execution("x") as execution:
        await execution.hand_back("worker_stopped")
    async with bus.healer.running():
        last = (await watch(bus, "x"))[-1]
    assert (last.type, last.data["reason"]) == ("execution.failed", "worker_lost")
    assert "handed back" in last.data["message"]


async def test_attack_28_a_stop_while_executions_are_begun_costs_none_of_them_its_attempt(bus: Bus) -> None:
    registry = Registry([Pipeline("once", (Step("nothing", nothing),), max_attempts=1)])
    ids = [await bus.submit("once", {}) for _ in range(40)]

    async def all_ended() -> bool:
        states = [await bus.state(each) for each in ids]
        return all(state is not None and state.ended for state in states)

    async def restart_until_done() -> None:
        milliseconds = 0
        while not await all_ended():
            worker = Worker(bus, registry, WorkerSettings(drain_seconds=0, concurrency=8))
            running = asyncio.create_task(worker.run())
            milliseconds = (milliseconds + 3) % 60
            await asyncio.sleep(milliseconds / 1000)
            worker.stop()
            await running

    async with asyncio.timeout(patient(60)):
        await restart_until_done()
    endings = [(await watch(bus, each))[-1] for each in ids]
    lost = [(each.type, each.data) for each in endings if (each.data or {}).get("reason") == "worker_lost"]
    assert lost == []
