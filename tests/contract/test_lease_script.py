"""lease.lua by itself: who runs an execution, and that a quiet one lives on."""

from __future__ import annotations

import asyncio

import pytest

from tailrace.bus.errors import ExecutionClosedError, LeaseHeldError, LeaseLostError, NotOrphanedError, ReplyError
from tailrace.bus.model.fence import Fence
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.retention import Retention
from tailrace.bus.ownership.lease import HEAL_SECONDS, Lease, Leases, Orphan
from tailrace.bus.redis.supervised import SupervisedConnection

pytestmark = pytest.mark.anyio

LIVE_SECONDS = 1000


@pytest.fixture
def leases(line: SupervisedConnection, keys: Keys) -> Leases:
    return Leases(line, keys, Retention(live_seconds=LIVE_SECONDS), lease_seconds=30)


@pytest.fixture
def meta(keys: Keys) -> str:
    return keys.meta("run")


async def expire(line: SupervisedConnection, meta: str) -> None:
    """As if the lease's time had passed."""
    await line.command("HSET", meta, "lease_until", 1)


async def test_a_lease_is_taken_once_and_held(leases: Leases) -> None:
    lease = await leases.take("run", "one")
    assert (lease.fence, lease.attempt) == (1, 1)
    with pytest.raises(LeaseHeldError, match="one"):
        await leases.take("run", "two")


async def test_of_many_who_come_at_once_exactly_one_takes_it(leases: Leases) -> None:
    results = await asyncio.gather(*(leases.take("run", f"w{i}") for i in range(50)), return_exceptions=True)
    assert sum(isinstance(result, Lease) for result in results) == 1
    assert sum(isinstance(result, LeaseHeldError) for result in results) == 49


async def test_its_owner_may_take_it_again_because_the_first_reply_may_have_been_lost(leases: Leases) -> None:
    await leases.take("run", "one")
    again = await leases.take("run", "one")
    assert (again.fence, again.attempt) == (2, 2)


async def test_an_expired_lease_goes_to_the_next_with_a_higher_fence(
    leases: Leases, line: SupervisedConnection, meta: str
) -> None:
    first = await leases.take("run", "one")
    await expire(line, meta)
    second = await leases.take("run", "two")
    assert (second.fence, second.attempt) == (first.fence + 1, 2)
    for spent in (leases.renew(first), leases.release(first)):
        with pytest.raises(LeaseLostError):
            await spent
    await leases.renew(second)


async def test_an_expired_lease_that_nobody_took_can_be_renewed(
    leases: Leases, line: SupervisedConnection, meta: str
) -> None:
    lease = await leases.take("run", "one")
    await expire(line, meta)
    await leases.renew(lease)
    with pytest.raises(LeaseHeldError):
        await leases.take("run", "two")


async def test_a_released_lease_is_free_at_once(leases: Leases) -> None:
    await leases.release(await leases.take("run", "one"))
    assert (await leases.take("run", "two")).attempt == 2


async def test_whoever_is_refused_learns_until_when(leases: Leases) -> None:
    lease = await leases.take("run", "one")
    with pytest.raises(LeaseHeldError) as refused:
        await leases.take("run", "two")
    assert (refused.value.owner, refused.value.until_ms) == ("one", lease.until_ms)
    renewed = await leases.renew(lease)
    assert renewed.until_ms >= lease.until_ms


async def test_an_execution_that_has_ended_can_neither_be_taken_nor_renewed(
    leases: Leases, line: SupervisedConnection, meta: str
) -> None:
    lease = await leases.take("run", "one")
    await line.command("HSET", meta, "terminal", "5-5")
    with pytest.raises(ExecutionClosedError, match="5-5"):
        await leases.take("run", "two")
    with pytest.raises(ExecutionClosedError, match="5-5"):
        await leases.renew(lease)
    await leases.release(lease)


async def test_a_lease_survives_a_flush_when_its_owner_renews_it(
    leases: Leases, line: SupervisedConnection, meta: str
) -> None:
    """Otherwise a run that nobody else has would be cancelled, and would never end."""
    lease = Lease("run", "one", fence=Fence(3, "s"), attempt=3)
    await leases.renew(lease)
    assert await line.command("HMGET", meta, "owner", "fence") == [b"one", b"3"]
    assert 0 < int(await line.command("TTL", meta)) <= LIVE_SECONDS
    with pytest.raises(LeaseHeldError):
        await leases.take("run", "two")


async def test_after_a_flush_whoever_took_it_first_keeps_it(
    leases: Leases, line: SupervisedConnection, meta: str
) -> None:
    lost = Lease("run", "one", fence=Fence(3, "s"), attempt=3)
    await leases.take("run", "two")
    with pytest.raises(LeaseLostError):
        await leases.renew(lost)
    assert await line.command("HGET", meta, "owner") == b"two"


async def test_a_state_rewound_to_an_older_owner_is_not_renewed_for_the_new_one(leases: Leases) -> None:
    await leases.take("run", "old")
    with pytest.raises(LeaseLostError):
        await leases.renew(Lease("run", "new", fence=Fence(2, "s"), attempt=2))


async def test_case_09_a_renewal_keeps_every_key_of_a_quiet_execution_alive(
    leases: Leases, line: SupervisedConnection, keys: Keys
) -> None:
    lease = await leases.take("run", "one")
    log, meta, control, checkpoints = keys.of_execution("run")
    await line.command("XADD", log, "*", "t", "a")
    await line.command("XADD", control, "*", "t", "a")
    await line.command("HSET", checkpoints, "a", "1")
    for key in (log, meta, control, checkpoints):
        await line.command("EXPIRE", key, LIVE_SECONDS // 2 - 10)
    await leases.renew(lease)
    for key in (log, meta, control, checkpoints):
        assert int(await line.command("TTL", key)) > LIVE_SECONDS - 10


async def test_case_09_a_renewal_touches_no_log_that_has_time_left(
    leases: Leases, line: SupervisedConnection, keys: Keys
) -> None:
    """Touching a watched key wakes everybody who reads it."""
    lease = await leases.take("run", "one")
    await line.command("XADD", keys.log("run"), "*", "t", "a")
    await line.command("EXPIRE", keys.log("run"), LIVE_SECONDS * 3 // 4)
    await leases.renew(lease)
    assert int(await line.command("TTL", keys.log("run"))) <= LIVE_SECONDS * 3 // 4


async def test_case_19_taking_a_lease_leaves_no_key_without_a_time_to_live(
    leases: Leases, line: SupervisedConnection, keys: Keys
) -> None:
    await line.command("XADD", keys.log("run"), "*", "t", "a")
    lease = await leases.take("run", "one")
    for key in (keys.log("run"), keys.meta("run")):
        assert 0 < int(await line.command("TTL", key)) <= LIVE_SECONDS
    await leases.release(lease)
    assert int(await line.command("TTL", keys.meta("run"))) > 0
    assert int(await line.command("EXISTS", keys.control("run"), keys.checkpoints("run"))) == 0


async def test_a_state_of_another_type_is_refused(leases: Leases, line: SupervisedConnection, meta: str) -> None:
    await line.command("SET", meta, "a string", "EX", 10)
    with pytest.raises(ReplyError, match="WRONGTYPE"):
        await leases.take("run", "one")


async def test_the_first_taking_notes_the_pipeline_and_a_later_one_does_not_change_it(
    leases: Leases, line: SupervisedConnection, meta: str
) -> None:
    lease = await leases.take("run", "one", "ingest")
    await leases.release(lease)
    await leases.take("run", "two", "other")
    assert await line.command("HGET", meta, "pipeline") == b"ingest"


# Healing.


async def begin(leases: Leases, line: SupervisedConnection, meta: str, status: str = "running") -> Lease:
    lease = await leases.take("run", "one", max_attempts=3)
    await line.command("HSET", meta, "status", status)
    return lease


@pytest.mark.parametrize("status", ["running", "paused", "cancelling"])
async def test_a_healer_takes_the_place_of_a_lost_owner_and_counts_no_attempt(
    leases: Leases, line: SupervisedConnection, meta: str, status: str
) -> None:
    lease = await begin(leases, line, meta, status)
    await line.command("HSET", meta, "submitted", "abc")
    await expire(line, meta)
    orphan = await leases.heal("run", "healer")
    assert orphan == Orphan(
        Lease("run", "healer", orphan.lease.fence, 1, status, orphan.lease.until_ms), "one", 3, submitted=True
    )
    with pytest.raises(LeaseLostError):
        await leases.renew(lease)


async def test_one_that_was_taken_and_not_begun_is_lost_too(
    leases: Leases, line: SupervisedConnection, meta: str
) -> None:
    """Its worker died between taking it and saying so."""
    await leases.take("run", "one")
    await expire(line, meta)
    assert (await leases.heal("run", "healer")).lost_owner == "one"


async def test_one_whose_owner_let_go_without_an_ending_is_lost_at_once(
    leases: Leases, line: SupervisedConnection, meta: str
) -> None:
    await leases.release(await begin(leases, line, meta))
    assert (await leases.heal("run", "healer")).lost_owner == "one"


async def test_one_that_was_let_go_before_anything_was_said_of_it_has_never_begun(leases: Leases) -> None:
    await leases.release(await leases.take("run", "one"))
    with pytest.raises(NotOrphanedError):
        await leases.heal("run", "healer")


async def test_of_ten_healers_exactly_one_gets_it(leases: Leases, line: SupervisedConnection, meta: str) -> None:
    await begin(leases, line, meta)
    await expire(line, meta)
    results = await asyncio.gather(*(leases.heal("run", f"h{i}") for i in range(10)), return_exceptions=True)
    assert sum(isinstance(result, Orphan) for result in results) == 1
    assert sum(isinstance(result, LeaseHeldError) for result in results) == 9


async def test_a_healer_holds_it_for_a_decision_only_and_its_successor_knows_who_was_lost(
    leases: Leases, line: SupervisedConnection, meta: str
) -> None:
    await begin(leases, line, meta)
    await expire(line, meta)
    first = await leases.heal("run", "h1")
    now, _ = await line.command("TIME")
    assert first.lease.until_ms <= (int(now) + HEAL_SECONDS + 1) * 1000
    await expire(line, meta)
    second = await leases.heal("run", "h2")
    assert (second.lost_owner, second.lease.fence, second.lease.attempt) == ("one", first.lease.fence + 1, 1)


async def test_a_taking_forgets_whom_an_earlier_healer_stood_in_for(
    leases: Leases, line: SupervisedConnection, meta: str
) -> None:
    await begin(leases, line, meta)
    await expire(line, meta)
    await leases.release((await leases.heal("run", "h1")).lease)
    await leases.take("run", "two")
    await expire(line, meta)
    assert (await leases.heal("run", "h2")).lost_owner == "two"


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"status": "queued", "fence": 3},
        {"status": "paused", "fence": 3, "waiting": 1},
        {"status": "running"},
        {"fence": 3},
    ],
    ids=["none", "queued", "paused, and waits for a worker", "never had an owner", "never begun"],
)
async def test_what_nobody_has_lost_is_not_healed(
    leases: Leases, line: SupervisedConnection, meta: str, state: dict[str, str | int]
) -> None:
    if state:
        await line.command("HSET", meta, *(part for pair in state.items() for part in pair))
    with pytest.raises(NotOrphanedError, match=str(state.get("status", "none"))):
        await leases.heal("run", "healer")


async def test_what_has_ended_is_not_healed(leases: Leases, line: SupervisedConnection, meta: str) -> None:
    await begin(leases, line, meta)
    await line.command("HSET", meta, "terminal", "5-5", "lease_until", 1)
    with pytest.raises(ExecutionClosedError):
        await leases.heal("run", "healer")


async def test_a_living_owner_is_replaced_only_when_it_was_to_cancel_and_its_time_is_over(
    leases: Leases, line: SupervisedConnection, meta: str
) -> None:
    lease = await begin(leases, line, meta)
    now_ms = int((await line.command("TIME"))[0]) * 1000
    with pytest.raises(LeaseHeldError):
        await leases.heal("run", "h1", cancel_after_ms=0)
    await line.command("HSET", meta, "status", "cancelling", "waiting", 1)
    for patience in (None, now_ms + 60_000):
        with pytest.raises(LeaseHeldError):
            await leases.heal("run", "h2", cancel_after_ms=patience)
    orphan = await leases.heal("run", "h3", cancel_after_ms=now_ms - 1)
    assert orphan.forced
    with pytest.raises(LeaseLostError):
        await leases.renew(lease)


async def test_a_dead_owner_that_was_to_cancel_needs_no_force(
    leases: Leases, line: SupervisedConnection, meta: str
) -> None:
    await begin(leases, line, meta, "cancelling")
    await expire(line, meta)
    assert not (await leases.heal("run", "healer", cancel_after_ms=0)).forced


async def test_whoever_takes_one_learns_whether_it_waited_or_was_lost(
    leases: Leases, line: SupervisedConnection, meta: str
) -> None:
    first = await begin(leases, line, meta, "paused")
    assert not first.waited
    await leases.release(first)
    second = await leases.take("run", "two")
    assert not second.waited
    await leases.release(second)
    await line.command("HSET", meta, "waiting", 1)
    assert (await leases.take("run", "three")).waited
