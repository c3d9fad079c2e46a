"""The bus on a real Redis Cluster: keys of an execution share a slot, each node has its reader, slots may move."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.bus import Entry, open_bus
from tailrace.bus.model.counters import Counters
from tailrace.bus.redis.address import dial_of
from tailrace.bus.redis.cluster import ClusterConnection
from tailrace.bus.redis.slots import slot_of_key
from tests.integration.deployment.clusters import Cluster, cluster, wait_until
from tests.patience import patient, stretched

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def three_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


async def test_case_23_executions_on_every_node_are_appended_to_and_followed_without_crossslot(
    three_nodes: Cluster, prefix: str
) -> None:
    """Source: redis 6794. 30 executions fall onto all three nodes; each is followed live and read again."""
    async with await open_bus(three_nodes.url) as bus:
        ids = [f"{prefix}-{number}" for number in range(30)]
        assert len({three_nodes.owner(slot_of_key(bus.keys.log(name))) for name in ids}) == 3

        async def follow(name: str) -> list[str]:
            return [item.type async for item in bus.follow(name) if isinstance(item, Entry)]

        followers = [asyncio.create_task(follow(name)) for name in ids]
        for name in ids:
            async with bus.execution(name) as execution:
                for number in range(10):
                    await execution.emit("step.progress", {"progress": number / 10}, step="s")
        expected = ["execution.started", *["step.progress"] * 10, "execution.completed"]
        assert await asyncio.gather(*followers) == [expected] * 30
        assert [item.type async for item in bus.follow(ids[0]) if isinstance(item, Entry)] == expected


async def test_a_node_that_hangs_is_not_waited_for_by_who_connects(three_nodes: Cluster) -> None:
    """It is the first that is asked for the map; a heartbeat that waited for it lost all its leases."""
    three_nodes.nodes[0].pause()
    try:
        connection = ClusterConnection(
            lambda at: dial_of(f"redis://{at[0]}:{at[1]}"),
            [("127.0.0.1", node.port or 0) for node in three_nodes.nodes],
            counters=Counters(),
            name="test",
        )
        begun = asyncio.get_running_loop().time()
        await connection.connect()
        assert asyncio.get_running_loop().time() - begun < stretched(2.0)
        await connection.aclose()
    finally:
        three_nodes.nodes[0].resume()


async def test_a_submission_is_queued_on_a_cluster(three_nodes: Cluster, prefix: str) -> None:
    """The execution's keys and the queue's are in different slots: each step has its own node."""
    async with await open_bus(three_nodes.url) as bus:
        await bus.jobs.queues.open(prefix)
        execution_id = await bus.submit("document", {"path": "/x"}, queue=prefix)
        taken = await bus.jobs.queues.take([prefix], "me", count=1)
        assert [job.execution_id for job in taken if hasattr(job, "execution_id")] == [execution_id]


async def test_a_follower_goes_on_while_its_slot_moves_to_another_node(three_nodes: Cluster, prefix: str) -> None:
    """MOVED, and ASK while the slot is on its way, cost no event and double none."""
    async with await open_bus(three_nodes.url) as bus:
        slot = slot_of_key(bus.keys.log(prefix))
        source = three_nodes.owner(slot)
        target = (source + 1) % 3
        seen: list[int] = []

        async def follow() -> None:
            async for item in bus.follow(prefix):
                assert isinstance(item, Entry), item
                seen.append(item.cursor.n)

        follower = asyncio.create_task(follow())
        publisher = bus.publisher(prefix)
        for number in range(50):
            await publisher.emit("custom.tick", {"number": number})
        await publisher.flush()
        moving = asyncio.create_task(asyncio.to_thread(move_slot, three_nodes, slot, source, target))
        number = 50
        while not moving.done():
            await publisher.append("custom.tick", {"number": number})
            number += 1
        await moving
        for _ in range(50):
            await publisher.append("custom.tick", {"number": number})
            number += 1
        await publisher.append("execution.completed", {})
        await asyncio.wait_for(follower, patient(20))
        assert seen == list(range(1, number + 2))
        await publisher.aclose()


async def test_case_23_a_failover_to_a_replica_is_followed(tmp_path: Path, prefix: str) -> None:
    """Source: trigger.dev 3548. The primary dies, its replica takes over: publishers and followers go on."""
    with cluster(tmp_path, primaries=3, replicas=3) as six:
        async with await open_bus(six.url) as bus:
            seen: list[int] = []

            async def follow() -> None:
                async for item in bus.follow(prefix):
                    assert isinstance(item, Entry), item
                    seen.append(item.cursor.n)

            follower = asyncio.create_task(follow())
            publisher = bus.publisher(prefix)
            for number in range(100):
                await publisher.append("custom.tick", {"number": number})
            owner = six.owner(slot_of_key(bus.keys.log(prefix)))
            with six.client(owner) as client:
                assert client.wait(1, 5000) == 1, "the replica must have it all before its primary dies"
            six.nodes[owner].kill()
            for number in range(100, 200):
                await publisher.append("custom.tick", {"number": number})
            await publisher.append("execution.completed", {})
            await asyncio.wait_for(follower, patient(30))
            assert seen == list(range(1, 202))
            await publisher.aclose()


def move_slot(nodes: Cluster, slot: int, source: int, target: int) -> None:
    """As an operator would: import, migrate key by key, hand over."""
    with nodes.client(source) as old, nodes.client(target) as new:
        old_id, new_id = str(old.cluster("myid")), str(new.cluster("myid"))
        new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", old_id)
        old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", new_id)
        while keys := old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            old.execute_command("MIGRATE", "127.0.0.1", nodes.nodes[target].port, "", 0, 5000, "KEYS", *keys)
        new.execute_command("CLUSTER", "SETSLOT", slot, "NODE", new_id)
        old.execute_command("CLUSTER", "SETSLOT", slot, "NODE", new_id)
        wait_until("the move is known", lambda: nodes.owner(slot) == target)
