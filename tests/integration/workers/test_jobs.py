"""Jobs that are broken, doubled, left behind or not ours: none of them may stop a worker or be lost."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tailrace.bus import Bus, BusSettings, ExecutionClosedError, FenceStaleError, Retention, open_bus
from tailrace.bus.jobs.queue import GROUP, Job
from tailrace.workers import Context, Outputs, Pipeline, Registry, Step
from tests.integration.workers.watching import (
    jobs_left,
    run,
    types_of,
    until,
    until_no_jobs_left,
    watch,
    working,
)

pytestmark = pytest.mark.anyio


async def say(ctx: Context, _outputs: Outputs) -> str:
    await ctx.log("here")
    return "done"


SAY = Registry([Pipeline("say", (Step("say", say),))])


async def put_job(bus: Bus, *fields: str | bytes, queue: str = "default") -> None:
    await bus.commands.command("XADD", bus.keys.jobs(queue), "*", *fields)


@pytest.mark.parametrize(
    "fields",
    [
        ("x", "1"),
        ("id", ""),
        ("id", "a b"),
        ("id", b"\xff\xfe"),
        ("id", "../../etc/passwd"),
        ("id", "x" * 100_000),
        (b"\0", b"\xff"),
    ],
)
async def test_a_broken_job_is_dropped_counted_and_logged_once(
    bus: Bus, caplog: pytest.LogCaptureFixture, fields: tuple[str | bytes, ...]
) -> None:
    await put_job(bus, *fields)
    with caplog.at_level(logging.WARNING):
        async with working(bus, SAY):
            entries = await run(bus, "say", {})
            await until_no_jobs_left(bus)
    assert entries[-1].type == "execution.completed"
    assert bus.counters["jobs_unusable"] == 1
    told = [record.getMessage() for record in caplog.records if "dropped" in record.getMessage()]
    assert len(told) == 1
    assert len(told[0]) < 500


async def test_a_job_of_an_execution_that_nobody_knows_is_dropped(bus: Bus) -> None:
    await put_job(bus, "id", "never-submitted")
    async with working(bus, SAY):
        await run(bus, "say", {})
        await until_no_jobs_left(bus)
    assert bus.counters["jobs_without_execution"] == 1
    assert await bus.state("never-submitted") is None


async def test_an_unknown_pipeline_ends_in_a_sentence_that_names_the_known(bus: Bus) -> None:
    async with working(bus, SAY):
        entries = await run(bus, "sing", {})
        await until_no_jobs_left(bus)
    assert entries[-1].type == "execution.failed"
    assert entries[-1].data["reason"] == "unknown_pipeline"
    assert "'sing' on this worker; it knows: say." in entries[-1].data["message"]


@pytest.mark.parametrize("given", ["{", "[1]", b"\xff", ""])
async def test_an_input_that_a_stranger_broke_ends_the_execution_in_a_sentence(bus: Bus, given: str | bytes) -> None:
    execution_id = await bus.submit("say", {})
    await bus.commands.command("HSET", bus.keys.meta(execution_id), "input", given)
    async with working(bus, SAY):
        entries = await watch(bus, execution_id)
        await until_no_jobs_left(bus)
    assert entries[-1].type == "execution.failed"
    assert entries[-1].data["reason"] == "invalid_input"
    assert "JSON" in entries[-1].data["message"]


async def test_a_pipeline_name_that_is_no_text_ends_the_execution_in_a_sentence(bus: Bus) -> None:
    execution_id = await bus.submit("say", {})
    await bus.commands.command("HSET", bus.keys.meta(execution_id), "pipeline", b"\xff\xfe\n")
    async with working(bus, SAY):
        entries = await watch(bus, execution_id)
    assert entries[-1].data["reason"] == "unknown_pipeline"


@pytest.mark.parametrize("which", ["meta", "log"])
async def test_an_execution_whose_key_holds_something_else_stops_no_worker(bus: Bus, which: str) -> None:
    execution_id = await bus.submit("say", {})
    key = getattr(bus.keys, which)(execution_id)
    await bus.commands.command("SET", key, "a string")
    async with working(bus, SAY):
        entries = await run(bus, "say", {})
        await until_no_jobs_left(bus)
    assert entries[-1].type == "execution.completed"
    assert bus.counters["jobs_unusable"] == 1


async def test_a_job_of_an_execution_that_has_ended_is_dropped(bus: Bus) -> None:
    async with working(bus, SAY):
        execution_id = await bus.submit("say", {})
        before = await watch(bus, execution_id)
        await put_job(bus, "id", execution_id)
        await until_no_jobs_left(bus)
        assert await watch(bus, execution_id) == before


async def test_an_execution_submitted_twice_runs_once(bus: Bus) -> None:
    async with working(bus, SAY):
        for _ in range(5):
            await bus.submit("say", {"n": 1}, execution_id="once")
        entries = await watch(bus, "once")
        await until_no_jobs_left(bus)
    assert types_of(entries).count("log") == 1
    assert types_of(entries).count("execution.started") == 1


async def test_submitting_again_repairs_a_job_that_was_lost_in_between(bus: Bus) -> None:
    """Whoever submitted may have died after the state and before the job."""
    await bus.submit("say", {}, execution_id="torn")
    await bus.commands.command("DEL", bus.keys.jobs("default"))
    await bus.submit("say", {}, execution_id="torn")
    async with working(bus, SAY):
        assert (await watch(bus, "torn"))[-1].type == "execution.completed"


async def test_a_second_job_of_a_running_execution_waits_for_its_end_and_goes(bus: Bus) -> None:
    release = asyncio.Event()

    async def wait(ctx: Context, _outputs: Outputs) -> None:
        await ctx.log("waiting")
        await release.wait()

    registry = Registry([Pipeline("wait", (Step("wait", wait),))])
    async with working(bus, registry):
        execution_id = await bus.submit("wait", {})
        await watch(bus, execution_id, until="log")
        await put_job(bus, "id", execution_id)
        await until(lambda: bus.counters["jobs_held"] > 0)
        assert (await jobs_left(bus))[0] == 2
        release.set()
        entries = await watch(bus, execution_id)
        await until_no_jobs_left(bus)
    assert types_of(entries).count("execution.started") == 1
    assert entries[-1].type == "execution.completed"


async def test_what_a_program_runs_by_itself_is_not_taken_from_it(bus: Bus) -> None:
    execution_id = await bus.submit("say", {})
    async with bus.execution(execution_id) as execution, working(bus, SAY):
        # Looked at again and again: should the program die, the job must still be there.
        await until(lambda: bus.counters["jobs_held"] > 1)
        await execution.emit("custom.mine")
    entries = await watch(bus, execution_id)
    assert types_of(entries)[-2:] == ["custom.mine", "execution.completed"]


async def test_a_job_taken_by_a_worker_that_is_gone_is_claimed(bus: Bus) -> None:
    """Killed between taking and starting, or the reply of taking was lost with its connection."""
    await bus.jobs.queues.open("default")
    execution_id = await bus.submit("say", {})
    (taken,) = await bus.jobs.queues.take(["default"], "gone", count=10)
    assert isinstance(taken, Job)
    async with working(bus, SAY):
        entries = await watch(bus, execution_id)
        await until_no_jobs_left(bus)
    assert entries[-1].type == "execution.completed"
    assert bus.counters["jobs_claimed"] == 1


async def test_an_execution_whose_worker_was_lost_is_tried_again_but_not_for_ever(bus: Bus) -> None:
    execution_id = await bus.submit("say", {})
    for attempt in (1, 2, 3):
        lease = await bus.leases.take(execution_id, f"lost-{attempt}")
        assert lease.attempt == attempt
        await bus.leases.release(lease)
    async with working(bus, SAY):
        entries = await watch(bus, execution_id)
    assert types_of(entries) == ["execution.queued", "execution.started", "execution.failed"]
    assert entries[-1].data["reason"] == "worker_lost"
    assert "3 times" in entries[-1].data["message"]


async def test_jobs_that_are_worked_on_are_not_claimed_however_long_it_takes(
    bus: Bus, server_url: str, settings: BusSettings
) -> None:
    release = asyncio.Event()

    async def wait(ctx: Context, _outputs: Outputs) -> None:
        await ctx.log("waiting")
        await release.wait()

    registry = Registry([Pipeline("wait", (Step("wait", wait),))])
    async with await open_bus(server_url, settings=settings) as other, working(bus, registry):
        execution_id = await bus.submit("wait", {})
        await watch(bus, execution_id, until="log")
        async with working(other, registry):
            # Three leases long.
            await asyncio.sleep(3 * settings.lease_seconds)
            assert other.counters["jobs_claimed"] == 0
        release.set()
        assert (await watch(bus, execution_id))[-1].type == "execution.completed"


async def test_a_job_handed_back_is_claimed_at_once(bus: Bus) -> None:
    await bus.jobs.queues.open("default")
    await bus.submit("say", {})
    (job,) = await bus.jobs.queues.take(["default"], "one", count=1)
    assert await bus.jobs.queues.claim("default", "two", idle_seconds=3600, count=1) == ([], False)
    await bus.jobs.queues.hand_back(job, "one")
    assert await bus.jobs.queues.claim("default", "two", idle_seconds=3600, count=1) == ([job], False)


async def test_a_job_that_is_kept_is_not_claimed(bus: Bus) -> None:
    await bus.jobs.queues.open("default")
    await bus.submit("say", {})
    (job,) = await bus.jobs.queues.take(["default"], "one", count=1)
    assert isinstance(job, Job)
    await bus.jobs.queues.hand_back(job, "one")
    await bus.jobs.queues.keep([job], "one")
    assert await bus.jobs.queues.claim("default", "two", idle_seconds=1, count=1) == ([], False)


async def test_an_acknowledged_job_is_gone_from_the_queue_and_from_its_group(bus: Bus) -> None:
    await bus.jobs.queues.open("default")
    await bus.submit("say", {})
    (job,) = await bus.jobs.queues.take(["default"], "one", count=1)
    assert await jobs_left(bus) == (1, 1)
    await bus.jobs.queues.acknowledge(job)
    assert await jobs_left(bus) == (0, 0)
    await bus.jobs.queues.acknowledge(job)


async def test_a_consumer_that_holds_jobs_stays_so_that_they_can_be_claimed(bus: Bus) -> None:
    await bus.jobs.queues.open("default")
    await bus.submit("say", {})
    (job,) = await bus.jobs.queues.take(["default"], "one", count=1)
    await bus.jobs.queues.leave("default", "one")
    assert await consumers(bus) == ["one"]
    await bus.jobs.queues.acknowledge(job)
    await bus.jobs.queues.leave("default", "one")
    assert await consumers(bus) == []


async def consumers(bus: Bus) -> list[str]:
    found: list[Any] = await bus.commands.command("XINFO", "CONSUMERS", bus.keys.jobs("default"), GROUP)
    return [consumer[b"name"].decode() for consumer in found]


async def test_a_worker_that_stopped_leaves_no_consumer_behind(bus: Bus) -> None:
    async with working(bus, SAY):
        await run(bus, "say", {})
        assert len(await consumers(bus)) == 1
    assert await consumers(bus) == []


async def test_a_checkpoint_is_refused_to_whoever_was_fenced_off_and_after_the_end(bus: Bus) -> None:
    async with bus.execution("kept") as execution:
        await bus.checkpoints.store("kept", "one", b"\x01", fence=execution.fence)
        with pytest.raises(FenceStaleError):
            await bus.checkpoints.store("kept", "one", b"\x02", fence=execution.fence - 1)
        ttl = await bus.commands.command("TTL", bus.keys.checkpoints("kept"))
        assert 0 < ttl <= Retention().live_seconds
        fence = execution.fence
    with pytest.raises(ExecutionClosedError):
        await bus.checkpoints.store("kept", "two", b"\x03", fence=fence)
    assert await bus.checkpoints.load("kept") == {"one": 1}
