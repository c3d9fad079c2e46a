"""The index on every server: who must be looked at when, by one at a time; and the newest executions."""

from __future__ import annotations

import asyncio

import pytest

from tailrace.bus.log import index as index_module
from tailrace.bus.log.index import ExecutionIndex
from tailrace.bus.model.keys import Keys
from tailrace.bus.redis.supervised import SupervisedConnection
from tests.patience import patient

pytestmark = pytest.mark.anyio


@pytest.fixture
def index(line: SupervisedConnection, keys: Keys) -> ExecutionIndex:
    return ExecutionIndex(line, keys)


async def now_ms(line: SupervisedConnection) -> int:
    return int((await line.command("TIME"))[0]) * 1000


async def due_at(line: SupervisedConnection, keys: Keys, execution_id: str) -> int | None:
    score = await line.command("ZSCORE", keys.due(), execution_id)
    return None if score is None else int(score)


async def test_what_is_due_is_claimed_the_longest_due_first(index: ExecutionIndex, line: SupervisedConnection) -> None:
    now = await now_ms(line)
    await index.look_at_all({"later": now + 60_000, "second": now - 10, "first": now - 20})
    assert await index.claim_due(10, 60_000) == ["first", "second"]


async def test_no_more_are_claimed_than_asked_for(index: ExecutionIndex) -> None:
    await index.look_at_all({f"r{i}": i for i in range(10)})
    assert await index.claim_due(3, 60_000) == ["r0", "r1", "r2"]
    assert await index.claim_due(3, 60_000) == ["r3", "r4", "r5"]


async def test_of_many_claimers_each_gets_others(index: ExecutionIndex) -> None:
    await index.look_at_all({f"r{i}": 1 for i in range(100)})
    claims = await asyncio.gather(*(index.claim_due(10, 60_000) for _ in range(10)))
    assert sorted(each for claim in claims for each in claim) == sorted(f"r{i}" for i in range(100))


async def test_what_a_claimer_did_nothing_about_is_due_again(index: ExecutionIndex) -> None:
    await index.look_at_all({"run": 1})
    assert await index.claim_due(1, 1) == ["run"]
    async with asyncio.timeout(patient(5)):
        while not await index.claim_due(1, 60_000):
            pass


async def test_a_look_may_be_brought_forward_by_anybody_and_put_off_by_who_knows(
    index: ExecutionIndex, line: SupervisedConnection, keys: Keys
) -> None:
    await index.look_at("run", 500)
    await index.look_at("run", 900)
    assert await due_at(line, keys, "run") == 500
    await index.look_at("run", 400)
    assert await due_at(line, keys, "run") == 400
    await index.look_at_all({"run": 900})
    assert await due_at(line, keys, "run") == 900


async def test_only_what_was_lost_is_restored(index: ExecutionIndex, line: SupervisedConnection, keys: Keys) -> None:
    await index.look_at("known", 500)
    await index.restore({"known": 1, "lost": 2})
    assert (await due_at(line, keys, "known"), await due_at(line, keys, "lost")) == (500, 2)


async def test_what_was_dropped_is_not_due_any_more(index: ExecutionIndex) -> None:
    await index.look_at_all({"run": 1})
    await index.drop("run")
    assert await index.claim_due(10, 1) == []


async def test_nothing_at_all_to_look_at_is_no_error(index: ExecutionIndex) -> None:
    await index.look_at_all({})
    await index.restore({})
    assert await index.claim_due(10, 1) == []


async def test_what_strangers_write_into_it_is_thrown_out(
    index: ExecutionIndex, line: SupervisedConnection, keys: Keys
) -> None:
    await line.command("ZADD", keys.due(), 1, b"\xff\xfe", 1, "a b", 1, "good")
    assert await index.claim_due(10, 60_000) == ["good"]
    assert int(await line.command("ZCARD", keys.due())) == 1


async def test_case_19_no_index_is_without_a_time_to_live(
    index: ExecutionIndex, line: SupervisedConnection, keys: Keys
) -> None:
    await index.note("run", "acme", 1)
    await index.look_at("run", 1)
    for key in (keys.due(), keys.executions(None), keys.executions("acme")):
        assert int(await line.command("TTL", key)) > 0


# The newest executions.


async def test_the_newest_come_first_and_pages_join_without_a_seam(index: ExecutionIndex) -> None:
    # Many in one millisecond: a page may end among them.
    expected = sorted(((ms, f"r{ms}-{i}") for ms in (5, 6, 7) for i in range(40)), reverse=True)
    for ms, execution_id in expected:
        await index.note(execution_id, None, ms)
    for size in (1, 7, 40, 200):
        seen: list[tuple[int, str]] = []
        while page := await index.newest(None, seen[-1] if seen else None, size):
            assert len(page) <= size
            seen += page
        assert seen == expected


async def test_attack_65_an_id_that_is_used_again_stands_where_it_was_created_last(index: ExecutionIndex) -> None:
    """Its state had expired meanwhile, and its old place had not."""
    await index.note("again", "acme", 1)
    await index.note("other", "acme", 2)
    await index.note("again", "acme", 3)
    for tenant in ("acme", None):
        assert await index.newest(tenant, count=10) == [(3, "again"), (2, "other")]


async def test_a_tenant_sees_its_own_and_nobody_elses(index: ExecutionIndex) -> None:
    await index.note("a", "acme", 1)
    await index.note("b", "other", 2)
    await index.note("c", None, 3)
    assert await index.newest("acme", count=10) == [(1, "a")]
    assert await index.newest(None, count=10) == [(3, "c"), (2, "b"), (1, "a")]
    assert await index.newest("nobody", count=10) == []


async def test_it_keeps_the_newest_only(
    index: ExecutionIndex, line: SupervisedConnection, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "MAX_EXECUTIONS", 50)
    for ms in range(1, 402):
        await index.note(f"r{ms}", None, ms)
    size = int(await line.command("ZCARD", keys.executions(None)))
    assert size == 50
    assert int(await line.command("TTL", keys.executions(None))) > 0
    assert (await index.newest(None, count=1)) == [(401, "r401")]


async def test_it_tells_whether_somebody_should_have_been_looked_at_by_a_time(index: ExecutionIndex) -> None:
    await index.look_at_all({"now": 0, "run": 500})
    assert not await index.was_due(499)
    assert await index.was_due(500)
