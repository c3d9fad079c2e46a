"""Submitting once, one at a time, later, and into a queue that has room."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tailrace.bus import (
    Bus,
    BusSettings,
    BusUnavailableError,
    ConcurrencyConflictError,
    ExecutionExistsError,
    InvalidInputError,
    QueueFullError,
    open_bus,
)
from tailrace.workers import Context, Pipeline, Registry, Step
from tests.integration.workers.watching import jobs_left, types_of, until_no_jobs_left, watch, working
from tests.patience import patient

pytestmark = pytest.mark.anyio


async def say(ctx: Context) -> str:
    await ctx.log("here")
    return "done"


SAY = Registry([Pipeline("say", (Step("say", say),))])


async def end(bus: Bus, execution_id: str) -> None:
    async with bus.execution(execution_id):
        pass


async def unix_ms(bus: Bus) -> int:
    seconds, micros = await bus.commands.command("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


async def test_of_a_concurrency_key_the_second_gets_a_conflict_that_names_the_first(bus: Bus) -> None:
    first = await bus.submit("say", {"n": 1}, concurrency_key="user:7")
    with pytest.raises(ConcurrencyConflictError) as conflict:
        await bus.submit("say", {"n": 2}, concurrency_key="user:7", execution_id="second")
    assert (conflict.value.execution_id, conflict.value.concurrency_key) == (first, "user:7")
    assert await bus.state("second") is None
    assert await bus.jobs.queues.length("default") == 1


async def test_other_keys_and_other_tenants_are_in_nobodys_way(bus: Bus) -> None:
    wishes: list[dict[str, Any]] = [
        {"concurrency_key": "a:b", "tenant": "t"},
        {"concurrency_key": "b", "tenant": "t-a"},
        {"concurrency_key": "a:b"},
        {"concurrency_key": "a"},
        {},
    ]
    assert len({await bus.submit("say", {}, **wish) for wish in wishes}) == 5


async def test_a_concurrency_key_is_free_when_its_holder_has_ended(bus: Bus) -> None:
    first = await bus.submit("say", {}, concurrency_key="k")
    async with bus.execution(first):
        with pytest.raises(ConcurrencyConflictError):
            await bus.submit("say", {}, concurrency_key="k")
    second = await bus.submit("say", {}, concurrency_key="k")
    with pytest.raises(ConcurrencyConflictError) as conflict:
        await bus.submit("say", {}, concurrency_key="k")
    assert conflict.value.execution_id == second


async def test_a_concurrency_key_is_free_when_its_holder_has_vanished(bus: Bus) -> None:
    first = await bus.submit("say", {}, concurrency_key="k")
    await bus.commands.command("DEL", *bus.keys.of_execution(first))
    await bus.submit("say", {}, concurrency_key="k")


async def test_of_many_of_a_concurrency_key_at_once_exactly_one_is_in_flight(bus: Bus) -> None:
    for _ in range(3):
        results = await asyncio.gather(
            *(bus.submit("say", {"n": n}, concurrency_key="k", execution_id=f"run-{n}") for n in range(20)),
            return_exceptions=True,
        )
        (winner,) = [result for result in results if isinstance(result, str)]
        conflicts = [result for result in results if isinstance(result, ConcurrencyConflictError)]
        assert len(conflicts) == 19
        assert {conflict.execution_id for conflict in conflicts} == {winner}
        for n in range(20):
            if f"run-{n}" != winner:
                # Refused at the last moment, it is forgotten soon.
                assert int(await bus.commands.command("TTL", bus.keys.meta(f"run-{n}"))) <= 60
        await end(bus, winner)
        await bus.commands.command("DEL", *(bus.keys.meta(f"run-{n}") for n in range(20)), bus.keys.log(winner))


async def test_submitting_the_holder_again_is_no_conflict_with_itself(bus: Bus) -> None:
    first = await bus.submit("say", {}, concurrency_key="k", idempotency_key="i")
    assert await bus.submit("say", {}, concurrency_key="k", idempotency_key="i") == first
    await end(bus, first)
    second = await bus.submit("say", {"n": 2}, concurrency_key="k")
    # It has ended, and another is in flight: what was answered once is answered alike.
    assert await bus.submit("say", {}, concurrency_key="k", idempotency_key="i") == first
    with pytest.raises(ConcurrencyConflictError) as conflict:
        await bus.submit("say", {}, concurrency_key="k")
    assert conflict.value.execution_id == second


async def test_a_holder_whose_submitter_died_half_way_is_queued_by_the_next_who_finds_it(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: Any, **__: Any) -> None:
        raise BusUnavailableError("the submitter died here")

    with monkeypatch.context() as patched:
        patched.setattr(bus.log, "append", die)
        with pytest.raises(BusUnavailableError):
            await bus.submit("say", {"n": 1}, concurrency_key="k", execution_id="half")
    assert await bus.jobs.queues.length("default") == 0
    with pytest.raises(ConcurrencyConflictError) as conflict:
        await bus.submit("say", {}, concurrency_key="k")
    assert conflict.value.execution_id == "half"
    async with working(bus, SAY):
        assert (await watch(bus, "half"))[-1].type == "execution.completed"
    await bus.submit("say", {}, concurrency_key="k")


async def test_the_slot_of_a_concurrency_key_outlives_what_is_quiet_for_as_long_as_it_runs(bus: Bus) -> None:
    running = asyncio.Event()

    async def wait(_ctx: Context) -> None:
        running.set()
        await asyncio.Event().wait()

    async with working(bus, Registry([Pipeline("wait", (Step("wait", wait),), max_attempts=1)]), drain_seconds=0):
        await bus.submit("wait", {}, concurrency_key="k")
        await running.wait()
        (slot,) = [key async for key in keys_like(bus, "*:holder")]
        await bus.commands.command("EXPIRE", slot, 10)
        async with asyncio.timeout(patient(10)):
            while int(await bus.commands.command("TTL", slot)) <= 10:  # noqa: ASYNC110 - kept with the next heartbeat
                await asyncio.sleep(0.01)


async def keys_like(bus: Bus, pattern: str) -> Any:
    for key in await bus.commands.command("KEYS", f"{bus.keys.prefix}:{pattern}"):
        yield key


async def test_the_same_idempotency_key_is_the_same_execution(bus: Bus) -> None:
    ids = await asyncio.gather(*(bus.submit("say", {"n": 1}, idempotency_key="order 7") for _ in range(10)))
    assert len(set(ids)) == 1
    with pytest.raises(ExecutionExistsError):
        await bus.submit("say", {"n": 2}, idempotency_key="order 7")
    assert await bus.submit("say", {"n": 2}, idempotency_key="order 7", tenant="acme") not in ids
    async with working(bus, SAY):
        entries = await watch(bus, ids[0])
    assert types_of(entries).count("execution.started") == 1


async def test_an_idempotency_key_beside_an_execution_id_is_refused(bus: Bus) -> None:
    with pytest.raises(InvalidInputError, match="cannot be given together with execution_id"):
        await bus.submit("say", {}, idempotency_key="k", execution_id="e")


async def test_a_delayed_submission_is_begun_when_its_delay_is_over_and_not_before(bus: Bus) -> None:
    async with working(bus, SAY):
        submitted_ms = await unix_ms(bus)
        later = await bus.submit("say", {}, delay_seconds=0.7)
        sooner = await bus.submit("say", {})
        assert await bus.jobs.has_job(later)
        await watch(bus, sooner)
        entries = await watch(bus, later)
        await until_no_jobs_left(bus)
    started = next(entry for entry in entries if entry.type == "execution.started")
    assert started.cursor.ms - submitted_ms >= 700
    assert entries[0].data["delay_seconds"] == 0.7
    assert not await bus.jobs.has_job(later)


async def test_a_delayed_submission_is_kept_for_its_delay_and_as_long_again_as_any_other(bus: Bus) -> None:
    execution_id = await bus.submit("say", {}, delay_seconds=20 * 24 * 3600)
    live_seconds = bus.settings.live_seconds
    for key in (bus.keys.log(execution_id), bus.keys.meta(execution_id)):
        assert int(await bus.commands.command("TTL", key)) > 20 * 24 * 3600 + live_seconds - 60


async def test_a_delayed_one_that_is_cancelled_ends_at_once_and_its_job_goes_when_it_is_due(bus: Bus) -> None:
    execution_id = await bus.submit("say", {}, delay_seconds=0.5)
    await bus.control.cancel(execution_id)
    assert types_of(await watch(bus, execution_id))[-1] == "execution.cancelled"
    async with working(bus, SAY):
        async with asyncio.timeout(patient(10)):
            while await bus.jobs.queues.length("default"):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
    assert types_of(await watch(bus, execution_id))[-1] == "execution.cancelled"


async def test_a_thousand_delayed_jobs_that_are_due_at_once_are_all_moved_once(bus: Bus) -> None:
    queues = bus.jobs.queues
    await asyncio.gather(*(queues.put("default", f"run-{n}", delay_seconds=0.001) for n in range(1000)))
    moved: list[str] = []

    async def move() -> None:
        while jobs := await queues.move_due("default", count=50):
            moved.extend(job.execution_id for job in jobs)

    await asyncio.sleep(0.01)
    await asyncio.gather(*(move() for _ in range(4)))
    assert sorted(moved) == sorted(f"run-{n}" for n in range(1000))
    assert await bus.commands.command("XLEN", bus.keys.jobs("default")) == 1000
    assert await queues.length("default") == 1000


async def test_a_queue_that_is_full_refuses_with_the_reason_and_keeps_what_it_has(
    server_url: str, settings: BusSettings
) -> None:
    async with await open_bus(server_url, settings=settings.model_copy(update={"max_queue_jobs": 3})) as bus:
        await assert_three_are_the_most(bus)


async def assert_three_are_the_most(bus: Bus) -> None:
    for n in range(2):
        await bus.submit("say", {}, execution_id=f"run-{n}")
    await bus.submit("say", {}, delay_seconds=60)
    with pytest.raises(QueueFullError, match=r"'default' is full \(3 jobs\)") as full:
        await bus.submit("say", {}, execution_id="too-many")
    assert (full.value.queue, full.value.jobs) == ("default", 3)
    assert await bus.state("too-many") is None
    # What has its place is answered as before; another queue has room.
    assert await bus.submit("say", {}, execution_id="run-0") == "run-0"
    await bus.submit("say", {}, queue="other")
    async with working(bus, SAY):
        for n in range(2):
            await watch(bus, f"run-{n}")
        await bus.submit("say", {}, execution_id="too-many")
        await watch(bus, "too-many")


@pytest.mark.parametrize("delay_seconds", [0.0, 0.3])
async def test_a_job_that_was_lost_between_two_keys_is_found_and_queued_again(bus: Bus, delay_seconds: float) -> None:
    execution_id = await bus.submit("say", {}, delay_seconds=delay_seconds)
    assert await bus.jobs.has_job(execution_id)
    await bus.commands.command("DEL", bus.keys.jobs("default"), bus.keys.delayed_jobs("default"))
    assert not await bus.jobs.has_job(execution_id)
    await bus.healer.heal(execution_id)
    assert await bus.jobs.has_job(execution_id)
    async with working(bus, SAY):
        assert (await watch(bus, execution_id))[-1].type == "execution.completed"


async def test_a_job_that_is_taken_is_still_there_and_is_not_queued_again(bus: Bus) -> None:
    await bus.jobs.queues.open("default")
    execution_id = await bus.submit("say", {})
    await bus.jobs.queues.take(["default"], "one", count=1)
    await bus.healer.heal(execution_id)
    assert await jobs_left(bus) == (1, 1)


async def test_what_waits_for_longer_than_anything_lives_is_kept_by_whoever_looks_after_it(bus: Bus) -> None:
    execution_id = await bus.submit("say", {})
    for key in (bus.keys.log(execution_id), bus.keys.meta(execution_id)):
        await bus.commands.command("EXPIRE", key, 10)
    await bus.healer.heal(execution_id)
    for key in (bus.keys.log(execution_id), bus.keys.meta(execution_id)):
        assert int(await bus.commands.command("TTL", key)) > 3600


async def test_what_was_submitted_is_looked_at_by_a_healer_soon(bus: Bus) -> None:
    execution_id = await bus.submit("say", {}, delay_seconds=30)
    due_ms = float(await bus.commands.command("ZSCORE", bus.keys.due(), execution_id))
    assert 30 <= due_ms / 1000 - time.time() <= 40
    assert [each for _, each in await bus.index.newest(None)] == [execution_id]
