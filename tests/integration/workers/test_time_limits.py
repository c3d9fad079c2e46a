"""Executions with a time from their submission on: to be begun, and to be done."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tailrace import Bus, ConcurrencyConflictError, ExecutionTimedOutError, InvalidInputError
from tailrace.bus.model.entry import Entry
from tailrace.workers import Context, Pipeline, Registry, Step
from tests.integration.workers.watching import until_no_jobs_left, working
from tests.patience import patient

pytestmark = pytest.mark.anyio

LONG_SECONDS = 120.0
begun: list[str] = []


async def wait(ctx: Context) -> None:
    begun.append(ctx.execution_id)
    await asyncio.sleep(LONG_SECONDS)


async def say(_ctx: Context) -> dict[str, str]:
    return {"said": "x"}


async def fail(ctx: Context) -> None:
    begun.append(ctx.execution_id)
    raise OSError("away")


WORK = Registry(
    [
        Pipeline("say", (Step("say", say),)),
        Pipeline("wait", (Step("wait", wait),)),
        Pipeline("fail", (Step("fail", fail),), retries=9, retry_delay_seconds=LONG_SECONDS),
    ]
)


async def done_with_jobs(bus: Bus) -> None:
    """Once there is a worker that has been through all of them."""
    last = await bus.submit("say")
    assert await last.result(timeout_seconds=patient(20)) == {"said": "x"}
    await until_no_jobs_left(bus)


async def ending(bus: Bus, execution_id: str) -> dict[str, Any]:
    with pytest.raises(ExecutionTimedOutError) as over:
        await bus.handle(execution_id).result(timeout_seconds=patient(20))
    data: dict[str, Any] = over.value.data
    return data


async def test_one_that_nobody_begins_ends_in_time_though_there_is_no_worker(bus: Bus) -> None:
    async with bus.healer.running():
        handle = await bus.submit("wait", concurrency_key="k", start_within_seconds=0.3)
        with pytest.raises(ConcurrencyConflictError):
            await bus.submit("wait", concurrency_key="k")
        over = await ending(bus, handle)
    assert over == {
        "reason": "not_started",
        "message": "No worker has begun it within 0.3 s.",
        "start_within_seconds": 0.3,
    }
    assert (await handle.state()).attempt == 0
    # Its key is free again, and a worker that comes too late has nothing to do.
    async with working(bus, WORK):
        await done_with_jobs(bus)
    assert handle not in begun
    assert await bus.submit("wait", concurrency_key="k") != handle


async def test_one_that_was_begun_in_time_is_not_ended_for_having_waited(bus: Bus) -> None:
    async with bus.healer.running(), working(bus, WORK):
        handle = await bus.submit("wait", start_within_seconds=5, timeout_seconds=1.5)
        over = await ending(bus, handle)
    assert over["reason"] == "timeout"
    assert over["message"] == "It was not done 1.5 s after its submission."
    assert over["timeout_seconds"] == 1.5
    assert handle in begun


async def test_time_in_the_queue_counts_also_between_two_attempts(bus: Bus) -> None:
    async with bus.healer.running(), working(bus, WORK):
        handle = await bus.submit("fail", timeout_seconds=1.0, start_within_seconds=0.9)
        over = await ending(bus, handle)
    assert (over["reason"], over["timeout_seconds"]) == ("timeout", 1.0)
    assert begun.count(handle) == 1


async def test_a_worker_that_finds_it_too_late_begins_nothing(bus: Bus) -> None:
    handle = await bus.submit("wait", start_within_seconds=0.05)
    await asyncio.sleep(0.1)
    async with working(bus, WORK):
        over = await ending(bus, handle)
        await done_with_jobs(bus)
    assert (over["reason"], handle in begun) == ("not_started", False)


async def test_a_paused_execution_has_no_more_time_than_another(bus: Bus) -> None:
    async with bus.healer.running(), working(bus, WORK):
        handle = await bus.submit("wait", timeout_seconds=1.5)
        async for item in handle.events():
            if isinstance(item, Entry) and item.type == "execution.started":
                break
        await handle.pause()
        assert (await ending(bus, handle))["reason"] == "timeout"


async def test_a_delay_does_not_count_as_waiting_for_a_worker(bus: Bus) -> None:
    async with bus.healer.running():
        handle = await bus.submit("wait", delay_seconds=0.5, start_within_seconds=0.2)
        began = asyncio.get_running_loop().time()
        assert (await ending(bus, handle))["reason"] == "not_started"
        assert asyncio.get_running_loop().time() - began > 0.6
    with pytest.raises(InvalidInputError, match="timeout_seconds: is over before the delay"):
        await bus.submit("wait", delay_seconds=5, timeout_seconds=4)
    with pytest.raises(InvalidInputError, match="start_within_seconds"):
        await bus.submit("wait", start_within_seconds=0)
