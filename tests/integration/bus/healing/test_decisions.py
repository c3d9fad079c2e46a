"""What becomes of an execution whose owner is gone, decided once."""

from __future__ import annotations

import asyncio

import pytest

from tailrace.bus import Bus, ExecutionClosedError, LeaseLostError
from tailrace.bus.healing.decision import Decision
from tailrace.bus.healing.healer import Healer
from tests.integration.bus.healing.orphans import (
    DeadLetters,
    Jobs,
    append,
    begun,
    cancel,
    die,
    due_at,
    entries,
    healer_of,
    state,
    submitted,
    types,
)

pytestmark = pytest.mark.anyio


# The decision.


async def test_case_07_what_nobody_else_can_run_fails_with_the_true_reason(bus: Bus, healer: Healer) -> None:
    await begun(bus)
    await die(bus)
    verdict = await healer.heal("run")
    assert verdict is not None
    assert verdict.event.type == "execution.failed"
    *_, last = await entries(bus)
    assert (last.cursor, last.type, last.data["reason"]) == (verdict.cursor, "execution.failed", "worker_lost")
    assert last.data["lost_owner"] == "worker-1"
    await bus.activity.flush()
    assert await due_at(bus) is None


async def test_while_attempts_remain_it_is_queued_for_the_next(bus: Bus, healer: Healer, jobs: Jobs) -> None:
    await submitted(bus)
    await begun(bus)
    await die(bus)
    verdict = await healer.heal("run")
    assert verdict is not None
    assert verdict.event.data == {"attempt": 2, "reason": "worker_lost", "lost_owner": "worker-1"}
    assert await types(bus) == ["queued", "started", "retrying"]
    assert jobs.queued == ["run"]
    second = await bus.leases.take("run", "worker-2")
    assert (second.attempt, second.status, second.waited) == (2, "queued", True)


async def test_after_the_last_attempt_it_goes_to_the_dead_letters(
    bus: Bus, healer: Healer, jobs: Jobs, dead_letters: DeadLetters
) -> None:
    await submitted(bus)
    for _ in range(2):
        await begun(bus, max_attempts=2)
        await die(bus)
        await healer.heal("run")
    assert await types(bus) == ["queued", "started", "retrying", "started", "failed"]
    assert jobs.queued == ["run"]
    [(run, reason, message)] = dead_letters.letters
    assert (run, reason) == ("run", "worker_lost")
    assert "worker-1" in message


async def test_a_paused_one_stays_paused_while_it_waits_for_its_next_worker(
    bus: Bus, healer: Healer, jobs: Jobs
) -> None:
    await submitted(bus)
    lease = await begun(bus)
    await append(bus, "run", "execution.paused", lease=lease)
    await die(bus)
    assert await healer.heal("run") is not None
    # It has no owner now; that must not look like another death.
    assert await healer.heal("run") is None
    assert await types(bus) == ["queued", "started", "paused", "retrying"]
    assert (await state(bus)).status == "paused"
    second = await begun(bus)
    await append(bus, "run", "execution.resumed", lease=second)
    await die(bus)
    assert await healer.heal("run") is not None
    assert (await types(bus))[-2:] == ["resumed", "retrying"]


async def test_a_living_owner_is_left_alone_until_its_lease_runs_out(bus: Bus, healer: Healer) -> None:
    lease = await begun(bus)
    await bus.index.look_at_all({"run": 1})
    assert await healer.heal("run") is None
    assert await due_at(bus) == lease.until_ms
    await append(bus, "run", "execution.completed", lease=lease)


async def test_one_whose_ending_could_not_be_appended_is_healed(bus: Bus, healer: Healer) -> None:
    """Its owner let go of it, running."""
    lease = await begun(bus)
    await bus.index.look_at_all({"run": lease.until_ms})
    await bus.leases.release(lease)
    verdict = await healer.heal("run")
    assert verdict is not None
    assert verdict.event.data["lost_owner"] == "worker-1"


async def test_one_that_was_taken_and_never_begun_is_healed(bus: Bus, healer: Healer, jobs: Jobs) -> None:
    await submitted(bus)
    await bus.leases.take("run", "worker-1")
    await die(bus)
    jobs.present.add("run")
    # It still waits by its own account, and its job will be claimed.
    assert await healer.heal("run") is None
    await bus.leases.take("alone", "worker-1")
    await die(bus, "alone")
    assert await healer.heal("alone") is not None
    assert await types(bus, "alone") == ["failed"]


async def test_what_is_published_without_a_lease_is_nobodys_orphan(bus: Bus, healer: Healer) -> None:
    await append(bus, "run", "execution.started")
    await bus.index.look_at_all({"run": 1})
    assert await healer.heal("run") is None
    assert await types(bus) == ["started"]
    assert await due_at(bus) is None


async def test_one_that_is_gone_is_looked_at_no_more(bus: Bus, healer: Healer) -> None:
    await bus.index.look_at_all({"run": 1})
    assert await healer.heal("run") is None
    assert await due_at(bus) is None


# One decision.


async def test_ten_healers_at_once_make_one_decision(bus: Bus) -> None:
    jobs = Jobs()
    for attempt in range(1, 11):
        run = f"run{attempt}"
        await submitted(bus, run)
        await begun(bus, run)
        await die(bus, run)
        verdicts = await asyncio.gather(*(healer_of(bus, jobs, name=f"h{i}").heal(run) for i in range(10)))
        assert sum(isinstance(verdict, Decision) for verdict in verdicts) == 1
        assert await types(bus, run) == ["queued", "started", "retrying"]
    assert sorted(jobs.queued) == sorted(f"run{attempt}" for attempt in range(1, 11))


async def test_one_healer_asked_ten_times_at_once_makes_one_decision(bus: Bus, healer: Healer) -> None:
    await begun(bus)
    await die(bus)
    verdicts = await asyncio.gather(*(healer.heal("run") for _ in range(10)))
    assert sum(verdict is not None for verdict in verdicts) == 1
    assert await types(bus) == ["started", "failed"]


async def test_a_healer_that_died_between_taking_and_appending_is_replaced(bus: Bus, healer: Healer) -> None:
    await begun(bus)
    await die(bus)
    dead = await bus.leases.heal("run", "dead healer")
    assert await healer.heal("run") is None
    assert await due_at(bus) == dead.lease.until_ms
    await die(bus)
    verdict = await healer.heal("run")
    assert verdict is not None
    assert (verdict.event.data["lost_owner"], verdict.event.data["attempts"]) == ("worker-1", 1)


async def test_a_healer_that_woke_too_late_appends_nothing(bus: Bus, healer: Healer) -> None:
    await submitted(bus)
    await begun(bus)
    await die(bus)
    late = await bus.leases.heal("run", "late healer")
    await die(bus)
    assert await healer.heal("run") is not None
    assert await healer._decide(late, await state(bus)) is None
    assert await types(bus) == ["queued", "started", "retrying"]


async def test_a_healer_that_died_before_it_queued_the_job_is_made_up_for(bus: Bus, healer: Healer, jobs: Jobs) -> None:
    await submitted(bus)
    await begun(bus)
    await die(bus)
    orphan = await bus.leases.heal("run", "dead healer")
    await append(bus, "run", "execution.retrying", {"attempt": 2}, lease=orphan.lease)
    await die(bus)
    await healer.heal("run")
    assert jobs.queued == ["run"]
    assert await types(bus) == ["queued", "started", "retrying"]


async def test_the_dead_owners_late_events_are_refused(bus: Bus, healer: Healer) -> None:
    lease = await begun(bus)
    await die(bus)
    await healer.heal("run")
    with pytest.raises(LeaseLostError):
        # Fencing is tested with the append script; here the lease.
        await bus.leases.release(lease)


# Cancellation.


async def test_a_lost_owner_that_was_to_cancel_leaves_it_cancelled(bus: Bus, healer: Healer) -> None:
    await submitted(bus)
    await begun(bus)
    request = await cancel(bus, by="ann", reason="too dear", grace_seconds=60)
    await die(bus)
    verdict = await healer.heal("run")
    assert verdict is not None
    assert verdict.event.type == "execution.cancelled"
    data = verdict.event.data
    assert (data["request"], data["by"], data["reason"], "forced" in data) == (request, "ann", "too dear", False)
    assert await types(bus) == ["queued", "started", "cancel_requested", "cancelled"]


async def test_an_owner_that_ignores_a_cancellation_is_replaced_when_its_grace_is_over(
    bus: Bus, healer: Healer
) -> None:
    lease = await begun(bus)
    await cancel(bus, by="ann", grace_seconds=0)
    verdict = await healer.heal("run")
    assert verdict is not None
    assert (verdict.event.type, verdict.event.data["forced"]) == ("execution.cancelled", True)
    with pytest.raises(ExecutionClosedError):
        await append(bus, "run", "custom.late", lease=lease)


async def test_during_its_grace_an_owner_is_left_alone(bus: Bus, healer: Healer) -> None:
    lease = await begun(bus)
    await cancel(bus, grace_seconds=0.4)
    assert await healer.heal("run") is None
    due = await due_at(bus)
    assert due is not None
    # At the end of the grace, which comes before that of the lease.
    assert due < lease.until_ms
    await append(bus, "run", "execution.cancelled", lease=lease)


async def test_a_cancellation_that_comes_while_a_healer_decides_is_obeyed(bus: Bus, healer: Healer) -> None:
    await submitted(bus)
    await begun(bus)
    await die(bus)
    orphan = await bus.leases.heal("run", "slow healer")
    await cancel(bus, by="ann")
    verdict = await healer._decide(orphan, await state(bus))
    assert verdict is not None
    assert verdict.event.type == "execution.cancelled"
    assert verdict.event.data["by"] == "ann"
