"""Small defects of jobs, signals, listing and small events, each with its test."""

from __future__ import annotations

import asyncio
import time

import pytest

from tailrace.bus import Bus, BusSettings, BusUnavailableError, LogExhaustedError, open_bus
from tailrace.bus.healing.healer import LOOKS_A_LIFE
from tailrace.bus.model.codec import encode
from tailrace.bus.model.event import Event
from tailrace.workers import Context, Pipeline, Registry, Step
from tests.integration.bus.healing.orphans import due_at, healer_of, now_ms
from tests.integration.workers.watching import run, types_of, until, until_true, watch, working
from tests.patience import patient

pytestmark = pytest.mark.anyio

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def nothing(_ctx: Context) -> None:
    pass


def registry_of(*steps: Step, **options: object) -> Registry:
    return Registry([Pipeline("p", steps or (Step("nothing", nothing),), **options)])  # type: ignore[arg-type]


async def test_attack_29_many_due_jobs_hold_up_neither_a_ready_one_nor_a_stop(bus: Bus) -> None:
    due = [item for number in range(20_000) for item in (1, f"gone-{number}")]
    await bus.commands.command("ZADD", bus.keys.delayed_jobs("default"), *due)
    began = time.monotonic()
    async with working(bus, registry_of(), concurrency=1):
        await run(bus, "p", {})
        ready_seconds = time.monotonic() - began
    left = int(await bus.commands.command("ZCARD", bus.keys.delayed_jobs("default")))
    print(f"ready after {ready_seconds:.2f} s, {left} of 20000 due jobs left at the stop")
    assert left > 10_000


async def test_attack_29_a_repeated_submission_tells_the_activity_once(bus: Bus) -> None:
    for _ in range(3):
        await bus.submit("p", {}, execution_id="x")
    await bus.activity.flush()
    assert int(await bus.commands.command("XLEN", bus.keys.activity())) == 1


async def test_attack_29_the_list_of_a_tenant_expires(bus: Bus) -> None:
    await bus.submit("p", {}, tenant="acme")
    for tenant in (None, "acme"):
        assert int(await bus.commands.command("TTL", bus.keys.executions(tenant))) > 0


async def test_attack_29_consumers_of_killed_workers_are_forgotten_and_those_that_hold_jobs_are_not(bus: Bus) -> None:
    key = bus.keys.jobs("default")
    await bus.jobs.queues.open("default")
    await bus.jobs.queues.put("default", "held")
    await bus.jobs.queues.take(["default"], "holder", count=1)
    await bus.jobs.queues.take(["default"], "killed", count=1)

    async def consumers() -> set[bytes]:
        return {each[b"name"] for each in await bus.commands.command("XINFO", "CONSUMERS", key, "workers")}

    await bus.jobs.queues.sweep("default", idle_seconds=60)
    assert await consumers() == {b"holder", b"killed"}
    async with working(bus, registry_of()) as worker:

        async def is_forgotten() -> bool:
            return b"killed" not in await consumers()

        await until_true(is_forgotten)
        assert worker.name.encode() in await consumers()


async def test_attack_29_a_job_that_waits_is_kept_however_short_what_is_quiet_lives(
    server_url: str, prefix: str
) -> None:
    settings = BusSettings(prefix=prefix, lease_seconds=1.0, live_seconds=30)
    async with await open_bus(server_url, settings=settings) as bus:
        await bus.submit("p", {}, execution_id="x")
        # It has waited for long, so that looks become rare.
        await bus.commands.command("HSET", bus.keys.meta("x"), "created", 1)
        await healer_of(bus).heal("x")
        due = await due_at(bus, "x")
        assert due is not None
        assert due <= await now_ms(bus) + 1000 + 30_000 / LOOKS_A_LIFE


async def test_attack_29_a_second_job_does_not_begin_a_retry_before_its_time(bus: Bus) -> None:
    async def fail_once(ctx: Context) -> int:
        if ctx.attempt == 1:
            raise ConnectionError("not yet")
        return ctx.attempt

    async with working(bus, registry_of(Step("fail", fail_once), retries=1, retry_delay_seconds=1.0)):
        execution_id = await bus.submit("p", {})
        failed = (await watch(bus, execution_id, until="execution.retrying"))[-1]
        await bus.jobs.queues.put("default", execution_id)
        entries = await watch(bus, execution_id)
    started = [entry for entry in entries if entry.type == "execution.started"][1]
    assert started.cursor.ms - failed.cursor.ms >= failed.data["delay_seconds"] * 1000 - 100
    assert types_of(entries)[-1] == "execution.completed"


async def test_attack_29_a_long_error_is_retried_however_small_events_may_be(server_url: str, prefix: str) -> None:
    async def fail_once(ctx: Context) -> str:
        if ctx.attempt == 1:
            raise ConnectionError("long " * 1000)
        return "done"

    settings = BusSettings(prefix=prefix, lease_seconds=1.0, max_event_bytes=256)
    registry = registry_of(Step("fail", fail_once), retries=1, retry_delay_seconds=0.01)
    async with await open_bus(server_url, settings=settings) as bus, working(bus, registry):
        entries = await run(bus, "p", {})
    data = {entry.type: entry.data for entry in entries}
    assert "execution.completed" in data, data
    assert data["step.failed"]["left_out"] == ["message", "exception", "duration_seconds"]
    assert data["execution.retrying"].keys() == {"attempt", "reason", "delay_seconds", "left_out"}


async def test_attack_29_all_that_a_submission_says_carries_its_trace(bus: Bus) -> None:
    async def ask(ctx: Context) -> None:
        await ctx.ask("Go?")

    async with working(bus, registry_of(Step("ask", ask))):
        execution_id = await bus.submit("p", {}, trace=TRACE)
        asked = (await watch(bus, execution_id, until="review.required"))[-1]
        await bus.control.signal(execution_id, f"answer:{asked.data['ask']}", True)
        entries = await watch(bus, execution_id)
    without = [entry.type for entry in entries if entry.meta != {"traceparent": TRACE}]
    assert without == ["execution.signal_requested"]


async def test_attack_29_what_a_healer_says_carries_the_trace(bus: Bus) -> None:
    execution_id = await bus.submit("p", {}, trace=TRACE)
    lease = await bus.leases.take(execution_id, "worker", max_attempts=1)
    started = encode(Event("execution.started"), ts="2026-01-01T00:00:00.000000Z")
    await bus.log.append(execution_id, [started], fence=lease.fence)
    await bus.commands.command("HSET", bus.keys.meta(execution_id), "lease_until", 1)
    assert await healer_of(bus).heal(execution_id) is not None
    assert (await watch(bus, execution_id))[-1].meta == {"traceparent": TRACE}


async def test_attack_29_more_signals_than_are_kept_are_refused_and_none_is_dropped(bus: Bus) -> None:
    execution_id, refused = await bus.submit("p", {}), 0
    for number in range(1100):
        try:
            await bus.control.signal(execution_id, "go", number)
        except LogExhaustedError:
            refused += 1
    assert refused == 1100 - 1024
    async with asyncio.timeout(patient(30)), bus.execution(execution_id) as execution:
        heard = [(await execution.signal("go")).data for _ in range(1024)]
        assert heard == list(range(1024))
        # There is room again.
        await bus.control.signal(execution_id, "go", "more")
        assert (await execution.signal("go")).data == "more"


async def test_attack_29_one_that_is_full_of_signals_can_be_cancelled(bus: Bus) -> None:
    execution_id = await bus.submit("p", {})
    await bus.commands.command("HSET", bus.keys.meta(execution_id), "unanswered", 1024)
    with pytest.raises(LogExhaustedError):
        await bus.control.pause(execution_id)
    assert (await bus.control.cancel(execution_id)).status == "cancelled"


async def test_attack_29_executions_are_listed_by_the_clock_of_redis(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("tailrace.bus.bus.time.time_ns", lambda: 1_000_000_000)
        async with bus.execution("mine", tenant="acme"):
            pass
    ((created_ms, _),) = await bus.index.newest("acme")
    assert abs(created_ms - await now_ms(bus)) < patient(10_000)


async def test_attack_29_numbers_that_are_left_out_do_not_push_ids_into_the_future(bus: Bus) -> None:
    event = encode(Event("custom.n"), ts="2026-01-01T00:00:00.000000Z")
    for number in range(1, 400):
        last = await bus.log.append("x", [event], producer="p", seq=2 * number)
    assert last.ms <= await now_ms(bus) + 1001


async def test_attack_29_an_execution_whose_first_listing_fails_is_listed_though_it_has_ended(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bus.execution("before"):
        await until(lambda: bus.heartbeat._parts is not None)
    parts = bus.heartbeat._parts
    assert parts is not None
    note, failures = parts.index.note, 0

    async def fail_once(execution_id: str, tenant: str | None, created_ms: int) -> None:
        nonlocal failures
        if not failures:
            failures += 1
            raise BusUnavailableError("gone for a moment")
        await note(execution_id, tenant, created_ms)

    monkeypatch.setattr(parts.index, "note", fail_once)
    async with bus.execution("short"):
        pass

    async def is_listed() -> bool:
        return "short" in [execution_id for _, execution_id in await bus.index.newest(None)]

    await until_true(is_listed)
    assert failures == 1
