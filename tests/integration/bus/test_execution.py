"""``async with bus.execution(id)``: one owner, one ending, and the true reason in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tailrace.bus import (
    Bus,
    BusSettings,
    Entry,
    Execution,
    ExecutionClosedError,
    FenceStaleError,
    InvalidEventError,
    LeaseHeldError,
    LeaseLostError,
    PublishFailedError,
    State,
    TenantMismatchError,
    open_bus,
)
from tests.integration.bus.follower import Follower
from tests.patience import patient

pytestmark = pytest.mark.anyio


@pytest.fixture
async def brisk_bus(each_server_url: str, prefix: str) -> AsyncIterator[Bus]:
    """Leases of half a second: a heartbeat every sixth of one."""
    settings = BusSettings(prefix=prefix, lease_seconds=0.5, live_seconds=2)
    async with await open_bus(each_server_url, settings=settings) as opened:
        yield opened


async def story(bus: Bus, run: str) -> list[Entry]:
    async with Follower(bus, run) as follower:
        await follower.end()
        assert follower.gaps == []
        return follower.entries


async def state_of(bus: Bus, run: str) -> State:
    state = await bus.state(run)
    assert state is not None
    return state


async def take_over(bus: Bus, run: str) -> Execution:
    """As another worker does once the lease has run out."""
    await bus.commands.command("HSET", bus.keys.meta(run), "lease_until", 1)
    other = bus.execution(run)
    await other.__aenter__()
    return other


async def test_a_run_that_goes_well_is_completed_with_its_result(bus: Bus) -> None:
    async with bus.execution("run", pipeline="demo") as execution:
        await execution.emit("step.progress", {"progress": 0.5}, step="fetch")
        execution.result = {"answer": 42}
    entries = await story(bus, "run")
    assert [entry.type for entry in entries] == ["execution.started", "step.progress", "execution.completed"]
    assert entries[0].data == {"attempt": 1, "owner": execution.owner, "pipeline": "demo"}
    assert entries[2].data == {"result": {"answer": 42}}
    state = await state_of(bus, "run")
    assert (state.status, state.owner, state.terminal) == ("completed", None, entries[2].cursor)


async def test_without_an_id_a_run_gets_one_of_its_own(bus: Bus) -> None:
    async with bus.execution() as one, bus.execution() as other:
        assert one.id != other.id
    assert (await story(bus, one.id))[-1].type == "execution.completed"


async def test_an_exception_fails_the_run_with_its_sentence_and_goes_on_to_the_caller(bus: Bus) -> None:
    with pytest.raises(ValueError, match="no such planet"):  # noqa: PT012 - what the block does is the test
        async with bus.execution("run") as execution:
            await execution.emit("a")
            raise ValueError("no such planet")
    last = (await story(bus, "run"))[-1]
    assert last.type == "execution.failed"
    assert last.data == {"reason": "exception", "message": "no such planet", "exception": "ValueError"}


class _CodedError(Exception):
    code = "quota"


@pytest.mark.parametrize(
    ("error", "reason", "message"),
    [
        (_CodedError("too many"), "quota", "too many"),
        (KeyError(), "exception", "KeyError"),
        (ValueError("x" * 1_000_000), "exception", "x" * 3997 + "..."),
        (ValueError("half \ud83d"), "exception", "half ?"),
        (ValueError("line\nbreak\x00"), "exception", "line\nbreak\x00"),
    ],
    ids=["coded", "empty", "huge", "surrogate", "control characters"],
)
async def test_any_exception_has_a_reason_that_can_be_shown(
    bus: Bus, error: Exception, reason: str, message: str
) -> None:
    with pytest.raises(type(error)):
        async with bus.execution("run"):
            raise error
    last = (await story(bus, "run"))[-1]
    assert (last.type, last.data["reason"], last.data["message"]) == ("execution.failed", reason, message)


async def test_a_failure_too_large_for_an_event_is_still_an_ending(each_server_url: str, prefix: str) -> None:
    settings = BusSettings(prefix=prefix, max_event_bytes=256)
    async with await open_bus(each_server_url, settings=settings) as bus:
        with pytest.raises(ValueError):
            async with bus.execution("run"):
                raise ValueError("x" * 1000)
        assert [entry.type for entry in await story(bus, "run")] == ["execution.started", "execution.failed"]


async def test_a_cancelled_program_leaves_a_cancelled_run(bus: Bus) -> None:
    entered = asyncio.Event()

    async def program() -> None:
        async with bus.execution("run") as execution:
            await execution.emit("a")
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(program())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [entry.type for entry in await story(bus, "run")] == ["execution.started", "a", "execution.cancelled"]


async def test_attack_76_a_cancelled_error_that_did_not_come_from_outside_fails_the_run(bus: Bus) -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with bus.execution("run"):
            await task
    ending = (await story(bus, "run"))[-1]
    assert (ending.type, ending.data["exception"]) == ("execution.failed", "CancelledError")


async def test_a_program_that_is_cancelled_while_it_ends_still_owes_the_ending(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = bus.log.append
    ending = asyncio.Event()

    async def slow_append(run: str, events: Any, **options: Any) -> Any:
        if events[-1][1].startswith(b"execution.c"):
            ending.set()
            await asyncio.sleep(0.1)
        return await append(run, events, **options)

    monkeypatch.setattr(bus.log, "append", slow_append)

    async def program() -> None:
        async with bus.execution("run"):
            pass

    task = asyncio.create_task(program())
    await ending.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await story(bus, "run"))[-1].type == "execution.completed"


async def test_a_timeout_around_it_cancels_the_run_and_is_told_as_a_timeout(bus: Bus) -> None:
    with pytest.raises(TimeoutError):  # noqa: PT012 - what the block does is the test
        async with asyncio.timeout(0.05):
            async with bus.execution("run"):
                await asyncio.sleep(60)
    assert (await story(bus, "run"))[-1].type == "execution.cancelled"


@pytest.mark.parametrize(("how", "ending"), [("complete", "execution.completed"), ("fail", "execution.failed")])
async def test_a_run_that_was_ended_by_hand_ends_once(bus: Bus, how: str, ending: str) -> None:
    async with bus.execution("run") as execution:
        if how == "complete":
            await execution.complete("done")
        else:
            await execution.fail("broken", "It broke.", part=7)
        with pytest.raises(ExecutionClosedError):
            await execution.emit("late")
    entries = await story(bus, "run")
    assert [entry.type for entry in entries] == ["execution.started", ending]


@pytest.mark.parametrize("result", [object(), "x" * 300_000, "\ud800"], ids=["no JSON", "too large", "surrogate"])
async def test_a_result_that_cannot_be_shown_fails_the_run_and_tells_the_caller(bus: Bus, result: object) -> None:
    with pytest.raises(InvalidEventError):
        async with bus.execution("run") as execution:
            execution.result = result
    last = (await story(bus, "run"))[-1]
    assert (last.type, last.data["reason"]) == ("execution.failed", "invalid_result")


async def test_an_ending_by_hand_that_cannot_be_shown_does_not_count_as_one(bus: Bus) -> None:
    with pytest.raises(InvalidEventError):
        async with bus.execution("run") as execution:
            await execution.complete(object())
    assert (await story(bus, "run"))[-1].type == "execution.failed"


async def test_what_was_emitted_last_is_in_the_log_before_the_ending(bus: Bus) -> None:
    async with bus.execution("run") as execution:
        for number in range(2000):
            await execution.emit("a", number)
        await execution.emit("token", {"text": "bye"})
    entries = await story(bus, "run")
    assert [entry.data for entry in entries[1:2001]] == list(range(2000))
    assert [entry.type for entry in entries[2001:]] == ["token", "execution.completed"]


async def test_an_execution_has_one_owner_also_within_one_process(bus: Bus) -> None:
    async with bus.execution("run"):
        with pytest.raises(LeaseHeldError):
            async with bus.execution("run"):
                raise AssertionError("taken twice")
    assert [entry.type for entry in await story(bus, "run")] == ["execution.started", "execution.completed"]


async def test_an_execution_that_has_ended_cannot_be_run_again(bus: Bus) -> None:
    async with bus.execution("run"):
        pass
    with pytest.raises(ExecutionClosedError):
        async with bus.execution("run"):
            raise AssertionError("run twice")


async def test_case_10_a_worker_that_lost_its_lease_is_stopped_and_appends_nothing_more(brisk_bus: Bus) -> None:
    stopped = asyncio.Event()

    async def zombie() -> None:
        async with brisk_bus.execution("run") as execution:
            try:
                await execution.append("from the first".replace(" ", "_"))
                await asyncio.sleep(60)
            finally:
                with pytest.raises(FenceStaleError):
                    await execution.append("from_the_dead")
                stopped.set()

    task = asyncio.create_task(zombie())
    async with Follower(brisk_bus, "run") as follower:
        await follower.until(lambda f: len(f.entries) == 2)
        other = await take_over(brisk_bus, "run")
        with pytest.raises(LeaseLostError):
            await task
        assert stopped.is_set()
        assert task.cancelling() == 0
        await other.append("from_the_second")
        await other.__aexit__(None, None, None)
        await follower.end()
    assert [entry.type for entry in follower.entries] == [
        "execution.started", "from_the_first", "execution.retrying", "execution.started", "from_the_second",
        "execution.completed",
    ]  # fmt: skip
    assert follower.entries[3].data["attempt"] == 2
    assert brisk_bus.counters["leases_lost"] == 1


async def test_a_lease_lost_while_ending_is_told_as_such_and_adds_no_second_ending(bus: Bus) -> None:
    """The heartbeat has not noticed yet: the log itself refuses."""
    with pytest.raises(LeaseLostError):
        async with bus.execution("run"):
            other = await take_over(bus, "run")
    await other.__aexit__(None, None, None)
    assert [entry.type for entry in await story(bus, "run")] == [
        "execution.started", "execution.retrying", "execution.started", "execution.completed",
    ]  # fmt: skip


async def test_an_error_of_the_body_is_what_its_caller_sees_though_the_lease_is_lost(bus: Bus) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - what the block does is the test
        async with bus.execution("run"):
            other = await take_over(bus, "run")
            raise ZeroDivisionError
    await other.__aexit__(None, None, None)
    assert (await story(bus, "run"))[-1].type == "execution.completed"


async def test_a_program_that_is_cancelled_and_has_lost_its_lease_is_cancelled(brisk_bus: Bus) -> None:
    entered = asyncio.Event()

    async def program() -> None:
        async with brisk_bus.execution("run"):
            entered.set()
            try:
                await asyncio.sleep(60)
            finally:
                task.cancel()

    task = asyncio.create_task(program())
    await entered.wait()
    other = await take_over(brisk_bus, "run")
    with pytest.raises(asyncio.CancelledError):
        await task
    await other.__aexit__(None, None, None)


async def test_case_09_a_quiet_run_outlives_its_time_to_live_by_its_heartbeat(brisk_bus: Bus) -> None:
    """Two seconds to live, quiet for three: a question that waits for a person."""
    async with Follower(brisk_bus, "run") as follower:
        async with brisk_bus.execution("run") as execution:
            await execution.append("asking")
            await asyncio.sleep(3.0)
            assert await brisk_bus.log.exists("run")
            assert (await state_of(brisk_bus, "run")).status == "running"
            await execution.append("answered")
        await follower.end()
    assert follower.types == ["execution.started", "asking", "answered", "execution.completed"]


async def test_case_09_a_run_that_nobody_runs_expires_with_all_its_keys(brisk_bus: Bus) -> None:
    publisher = brisk_bus.publisher("run")
    await publisher.append("a")
    await publisher.aclose()
    async with asyncio.timeout(patient(5)):
        while await brisk_bus.log.exists("run"):  # noqa: ASYNC110 - Redis tells nobody
            await asyncio.sleep(0.1)
    assert await brisk_bus.state("run") is None


async def test_a_lease_is_renewed_before_it_runs_out(brisk_bus: Bus) -> None:
    async with brisk_bus.execution("run"):
        for _ in range(4):
            await asyncio.sleep(0.2)
            with pytest.raises(LeaseHeldError):
                await brisk_bus.leases.take("run", "somebody else")


async def test_a_child_that_still_emits_when_its_run_fails_is_told_and_does_not_wait_for_ever(bus: Bus) -> None:
    children: list[asyncio.Task[None]] = []

    async def child(execution: Execution) -> None:
        while True:
            await execution.emit("a", "x" * 1000)

    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - what the block does is the test
        async with bus.execution("run", max_buffered_events=5) as execution:
            children = [asyncio.create_task(child(execution)) for _ in range(3)]
            await asyncio.sleep(0.02)
            raise ZeroDivisionError
    async with asyncio.timeout(patient(5)):
        done = await asyncio.gather(*children, return_exceptions=True)
    assert all(isinstance(error, Exception) and not isinstance(error, AssertionError) for error in done)
    assert (await story(bus, "run"))[-1].type == "execution.failed"


async def test_events_that_could_not_be_appended_fail_the_run_with_the_true_reason(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = bus.log.append
    broken = False

    async def fail_for_a_while(run: str, events: Any, **options: Any) -> Any:
        if broken and b"a" in events[0]:
            raise PublishFailedError(run, "the disk is full", len(events))
        return await append(run, events, **options)

    monkeypatch.setattr(bus.log, "append", fail_for_a_while)
    with pytest.raises(PublishFailedError, match="the disk is full"):  # noqa: PT012 - what the block does is the test
        async with bus.execution("run") as execution:
            broken = True
            await execution.emit("a")
            await execution.emit("a")
    last = (await story(bus, "run"))[-1]
    assert (last.type, last.data["reason"]) == ("execution.failed", "publish_failed")
    assert "the disk is full" in last.data["message"]


async def test_a_run_without_with_says_what_is_missing(bus: Bus) -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await bus.execution("run").emit("a")


async def test_a_run_belongs_to_the_tenant_that_was_named_and_is_listed_among_its_runs(bus: Bus) -> None:
    async with bus.execution("run", tenant="acme"):
        assert (await state_of(bus, "run")).tenant == "acme"
        listed = await bus.commands.command("ZRANGE", bus.keys.executions("acme"), 0, -1)
    assert listed == [b"run"]
    assert (await state_of(bus, "run")).tenant == "acme"


async def test_whoever_goes_on_with_a_tenants_run_may_name_it_again_or_not(bus: Bus) -> None:
    for tenant in ("acme", None, "acme"):
        async with bus.execution("run", tenant=tenant) as execution:
            await execution.hand_back("interrupted")
    assert (await state_of(bus, "run")).tenant == "acme"


@pytest.mark.parametrize("owner", ["other", None])
async def test_a_run_that_is_not_the_tenants_is_refused_and_left_as_it_is(bus: Bus, owner: str | None) -> None:
    async with bus.execution("run", tenant=owner):
        before = await state_of(bus, "run")
        with pytest.raises(TenantMismatchError, match="does not belong to tenant acme; choose another id"):
            async with bus.execution("run", tenant="acme"):
                raise AssertionError("entered")
        assert await state_of(bus, "run") == before
