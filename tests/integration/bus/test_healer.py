"""Healers: what becomes of executions that nobody looks after, told once, whoever dies over the telling."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bus import Bus, BusSettings, Entry, ExecutionClosedError, LeaseLostError, State, open_bus
from bus.codec import encode
from bus.contact import Contact
from bus.continuity import Numbering
from bus.cursor import START
from bus.event import Event
from bus.healer import CLAIM_MS, JOB_CHECK_SECONDS, Healer
from bus.lease import Lease
from bus.verdict import Verdict
from tests.integration.bus.follower import Follower

pytestmark = pytest.mark.anyio

TS = "2026-01-01T00:00:00.000000Z"


class Jobs:
    """A queue in memory."""

    def __init__(self) -> None:
        self.queued: list[str] = []
        self.present: set[str] = set()
        self._news = asyncio.Event()

    async def until(self, count: int) -> None:
        while len(self.queued) < count:
            self._news.clear()
            await self._news.wait()

    async def has_job(self, execution_id: str) -> bool:
        return execution_id in self.present

    async def requeue(self, execution_id: str) -> None:
        self.queued.append(execution_id)
        self.present.add(execution_id)
        self._news.set()


class DeadLetters:
    def __init__(self) -> None:
        self.letters: list[tuple[str, str, str]] = []

    async def add(self, execution_id: str, reason: str, message: str) -> None:
        self.letters.append((execution_id, reason, message))


@pytest.fixture
async def bus(each_server_url: str, prefix: str) -> AsyncIterator[Bus]:
    async with await open_bus(each_server_url, settings=BusSettings(prefix=prefix, lease_seconds=1.0)) as opened:
        yield opened


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
def dead_letters() -> DeadLetters:
    return DeadLetters()


@pytest.fixture
def healer(bus: Bus, jobs: Jobs, dead_letters: DeadLetters) -> Healer:
    return healer_of(bus, jobs, dead_letters)


def healer_of(
    bus: Bus, jobs: Jobs | None = None, dead_letters: DeadLetters | None = None, *, name: str = "me"
) -> Healer:
    return Healer(
        name=name,
        commands=bus.commands,
        keys=bus.keys,
        log=bus.log,
        leases=bus.leases,
        index=bus.index,
        counters=bus.counters,
        activity=bus.activity,
        jobs=jobs or Jobs(),
        dead_letters=dead_letters or DeadLetters(),
        after_outage_seconds=0.1,
    )


async def append(bus: Bus, run: str, event_type: str, data: Any = None, *, lease: Lease | None = None) -> None:
    fence = lease.fence if lease is not None else None
    await bus.log.append(run, [encode(Event(event_type, data), ts=TS)], fence=fence)


async def submitted(bus: Bus, run: str = "run") -> None:
    await bus.commands.command("HSET", bus.keys.meta(run), "submitted", "abc", "queue", "default")
    await append(bus, run, "execution.queued")


async def begun(bus: Bus, run: str = "run", *, max_attempts: int | None = 3) -> Lease:
    lease = await bus.leases.take(run, "worker-1", max_attempts=max_attempts)
    await append(bus, run, "execution.started", lease=lease)
    return lease


async def die(bus: Bus, run: str = "run") -> None:
    """As if the lease's time had passed, and somebody should have looked already."""
    await bus.commands.command("HSET", bus.keys.meta(run), "lease_until", 1)
    await bus.index.look_at_all({run: 1})


async def cancel(bus: Bus, run: str = "run", **data: Any) -> str:
    done = await bus.log.append(run, [encode(Event("execution.cancel_requested", data), ts=TS)])
    return str(done.last)


async def entries(bus: Bus, run: str = "run") -> list[Entry]:
    page = await bus.log.read(run, Numbering.after(START))
    return [item for item in page.items if isinstance(item, Entry)]


async def state(bus: Bus, run: str = "run") -> State:
    found = await bus.state(run)
    assert found is not None
    return found


async def types(bus: Bus, run: str = "run") -> list[str]:
    return [entry.type.removeprefix("execution.") for entry in await entries(bus, run)]


async def due_at(bus: Bus, run: str = "run") -> int | None:
    score = await bus.commands.command("ZSCORE", bus.keys.due(), run)
    return None if score is None else int(score)


async def now_ms(bus: Bus) -> int:
    return int((await bus.commands.command("TIME"))[0]) * 1000


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
        assert sum(isinstance(verdict, Verdict) for verdict in verdicts) == 1
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
    async with asyncio.timeout(10):
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
    async with asyncio.timeout(20):
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
    healer._contact.broken = True
    turn = asyncio.create_task(healer._turn())
    await bus.leases.renew(lease)
    assert await turn
    assert not await healer._turn()
    assert await types(bus) == ["started"]
    assert bus.counters["heal_pauses"] == 1


async def test_without_an_outage_nobody_waits(bus: Bus, healer: Healer) -> None:
    await begun(bus)
    await die(bus)
    await healer._turn()
    assert await types(bus) == ["started", "failed"]
    assert bus.counters["heal_pauses"] == 0


async def test_a_connection_that_broke_is_an_outage_only_when_it_took_as_long_as_half_a_lease(bus: Bus) -> None:
    def contact(lease_seconds: float) -> Contact:
        made = Contact(bus.commands, bus.index, bus.counters, lease_seconds=lease_seconds)
        made.restored()
        return made

    brief, long = contact(600), contact(0.0)
    now = asyncio.get_running_loop().time()
    bus.counters.add("redis_disconnects")
    brief.answered(now)
    long.answered(now)
    assert (brief.broken, long.broken) == (False, True)
    # Without a broken connection only a slow answer tells.
    slow = contact(1.0)
    seen = []
    for asked in (now - 1.0, now - 60):
        slow.answered(asked)
        seen.append(slow.broken)
    slow.restored()
    assert [*seen, slow.broken] == [False, True, False]


async def test_a_healer_ends_with_its_bus(each_server_url: str, prefix: str) -> None:
    async with await open_bus(each_server_url, settings=BusSettings(prefix=prefix)) as bus:
        task = asyncio.create_task(bus.healer.run())
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
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
