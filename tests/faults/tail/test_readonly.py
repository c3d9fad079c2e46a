"""A server that becomes a replica under its writers, and a primary again."""

from __future__ import annotations

import asyncio

import pytest

from tailrace.bus import Bus, ReplyError, open_bus
from tests.e2e.waiting import eventually
from tests.faults.tail.following import following
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio


async def test_case_23_writes_refused_by_a_replica_are_retried_until_it_is_a_primary(
    own_server: RunningServer, run: str
) -> None:
    """Source: trigger.dev 3548, redis 6794. READONLY means "not here, or not now", and costs nobody an event."""
    async with (
        await open_bus(own_server.url) as bus,
        await open_bus(own_server.url) as other,
        following(bus.log, await bus.tail(), run) as got,
    ):
        publisher = bus.publisher(run)
        for number in range(100):
            await publisher.emit("custom.counted", {"k": number})
        await publisher.flush()
        await other.commands.command("REPLICAOF", "127.0.0.1", "1")
        for number in range(100, 200):
            await publisher.emit("custom.counted", {"k": number})
        flushing = asyncio.create_task(publisher.flush())
        await refused_times(bus, 3)
        assert not flushing.done()
        # Reading works all the while.
        assert (await other.log.latest(run)).n == 100
        await other.commands.command("REPLICAOF", "NO", "ONE")
        await flushing
        await publisher.append("execution.completed", {"k": 200})
        await publisher.aclose()
    assert got.gaps == []
    assert got.numbers == list(range(1, 202))
    assert [data["k"] for data in got.data] == list(range(201))
    # READONLY may mean that a proxy or a name leads elsewhere by now.
    assert bus.counters["redis_disconnects"] >= 3
    assert bus.counters["publish_lost_events"] == 0


async def test_attack_59_reads_are_answered_while_a_replica_refuses_writes_on_the_same_connection(
    own_server: RunningServer, run: str
) -> None:
    async with await open_bus(own_server.url) as bus:
        await bus.commands.command("SET", run, "1")
        await bus.commands.command("REPLICAOF", "127.0.0.1", "1")
        for _ in range(10):
            # One refusal stands between reads that were sent before it and after it.
            answers = await asyncio.gather(
                *(bus.commands.command("GET", run) for _ in range(20)),
                bus.commands.command("SET", run, "2"),
                *(bus.commands.command("GET", run) for _ in range(20)),
                return_exceptions=True,
            )
            refusal = answers.pop(20)
            assert isinstance(refusal, ReplyError)
            assert refusal.code == "READONLY"
            assert answers == [b"1"] * 40
        assert bus.counters["redis_disconnects"] >= 9


async def refused_times(bus: Bus, count: int) -> None:
    async def refused() -> bool:
        """the append was refused and retried"""
        return bus.counters["append_retries"] >= count

    await eventually(refused, seconds=10)
