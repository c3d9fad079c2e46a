"""The scripts around jobs by themselves: enqueue, delayed, swap, note, count and withdraw."""

from __future__ import annotations

import asyncio

import pytest

from tailrace.bus.model.keys import Keys
from tailrace.bus.redis.script import Script
from tailrace.bus.redis.supervised import SupervisedConnection

pytestmark = pytest.mark.anyio

ENQUEUE, DELAYED, SWAP, NOTE, COUNT, WITHDRAW = map(
    Script.load, ("enqueue", "delayed", "swap", "note", "count", "withdraw")
)


@pytest.fixture
def queue(keys: Keys) -> tuple[str, str]:
    return keys.jobs("q"), keys.delayed_jobs("q")


@pytest.fixture
def meta(keys: Keys) -> tuple[str]:
    return (keys.meta("run"),)


async def test_a_job_without_a_delay_is_in_its_queue_at_once(
    line: SupervisedConnection, queue: tuple[str, str]
) -> None:
    entry_id = await ENQUEUE.run(line, queue, "run", 0)
    assert await line.command("XRANGE", queue[0], "-", "+") == [[entry_id, [b"id", b"run"]]]
    assert await line.command("EXISTS", queue[1]) == 0


async def test_a_delayed_job_stands_with_its_time_by_the_servers_clock(
    line: SupervisedConnection, queue: tuple[str, str]
) -> None:
    before = await line.command("TIME")
    assert await ENQUEUE.run(line, queue, "run", 5000) == b""
    due_ms = float(await line.command("ZSCORE", queue[1], "run"))
    before_ms = int(before[0]) * 1000 + int(before[1]) // 1000
    assert 5000 <= due_ms - before_ms <= 6000
    assert await line.command("EXISTS", queue[0]) == 0
    assert await DELAYED.run(line, queue, 10) == []


async def test_a_job_that_is_delayed_again_is_due_at_the_later_wish_and_stands_there_once(
    line: SupervisedConnection, queue: tuple[str, str]
) -> None:
    await ENQUEUE.run(line, queue, "run", 1)
    await ENQUEUE.run(line, queue, "run", 60_000)
    await asyncio.sleep(0.01)
    assert await DELAYED.run(line, queue, 10) == []
    assert await line.command("ZCARD", queue[1]) == 1


async def test_jobs_that_are_due_are_moved_the_longest_due_first_and_no_more_than_asked(
    line: SupervisedConnection, queue: tuple[str, str]
) -> None:
    await line.command("ZADD", queue[1], 3, "c", 1, "a", 2, "b", 9e15, "never")
    moved = await DELAYED.run(line, queue, 2)
    assert moved[::2] == [b"a", b"b"]
    assert (await DELAYED.run(line, queue, 2))[::2] == [b"c"]
    assert await DELAYED.run(line, queue, 2) == []
    entries = await line.command("XRANGE", queue[0], "-", "+")
    assert [fields for _, fields in entries] == [[b"id", b"a"], [b"id", b"b"], [b"id", b"c"]]
    assert [entry_id for entry_id, _ in entries[:2]] == moved[1::2]
    assert await line.command("ZRANGE", queue[1], 0, -1) == [b"never"]


async def test_of_many_who_saw_the_same_one_sets_it(line: SupervisedConnection, keys: Keys) -> None:
    slot = (keys.concurrency(None, "k"),)
    held = await asyncio.gather(*(SWAP.run(line, slot, "", f"run-{n}", 100) for n in range(20)))
    assert len(set(held)) == 1
    assert await line.command("GET", slot[0]) == held[0]
    assert await SWAP.run(line, slot, "somebody else", "mine", 100) == held[0]
    assert await SWAP.run(line, slot, held[0], "mine", 100) == b"mine"
    assert 0 < int(await line.command("TTL", slot[0])) <= 100


async def test_a_note_is_made_in_a_state_that_is_there_and_makes_none(
    line: SupervisedConnection, meta: tuple[str]
) -> None:
    assert await NOTE.run(line, meta, "job", "q 1-1") == 0
    assert await line.command("EXISTS", *meta) == 0
    await line.command("HSET", *meta, "status", "queued")
    assert await NOTE.run(line, meta, "job", "q 1-1") == 1
    assert await line.command("HGET", *meta, "job") == b"q 1-1"


async def test_only_who_runs_it_counts_and_nobody_once_it_has_ended(
    line: SupervisedConnection, meta: tuple[str]
) -> None:
    await line.command("HSET", *meta, "fence", 3, "attempt", 2)
    assert await COUNT.run(line, meta, "3:", "attempt", -1) == 1
    assert await COUNT.run(line, meta, "2:", "attempt", -1) == 0
    assert await COUNT.run(line, meta, "3:", "failures", 1) == 1
    await line.command("HSET", *meta, "terminal", "1-1")
    assert await COUNT.run(line, meta, "3:", "failures", 1) == 0
    assert await line.command("HMGET", *meta, "attempt", "failures") == [b"1", b"1"]


async def test_a_submission_that_was_refused_is_forgotten_unless_it_was_queued_after_all(
    line: SupervisedConnection, meta: tuple[str]
) -> None:
    await line.command("HSET", *meta, "submitted", "f")
    assert await WITHDRAW.run(line, meta, 60) == 1
    assert 0 < int(await line.command("TTL", *meta)) <= 60
    await line.command("HSET", *meta, "status", "queued")
    await line.command("EXPIRE", *meta, 1000)
    assert await WITHDRAW.run(line, meta, 60) == 0
    assert int(await line.command("TTL", *meta)) > 60
