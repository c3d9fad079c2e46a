"""Heartbeats and healers on a real cluster: the index stands in other slots, on other nodes, than what it points at."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tailrace.bus import BusSettings, Entry, open_bus
from tailrace.bus.model.codec import encode
from tailrace.bus.model.event import Event
from tailrace.bus.redis.slots import slot_of_key
from tests.integration.deployment.clusters import Cluster, cluster
from tests.patience import patient

pytestmark = pytest.mark.anyio

TS = "2026-01-01T00:00:00.000000Z"


@pytest.fixture(scope="module")
def three_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


async def test_orphans_on_every_node_are_found_by_an_index_on_one_and_told_once(
    three_nodes: Cluster, prefix: str
) -> None:
    settings = BusSettings(prefix=prefix, lease_seconds=1)
    async with await open_bus(three_nodes.url, settings=settings) as bus:
        runs = [f"{prefix}-{number}" for number in range(12)]
        assert len({three_nodes.owner(slot_of_key(bus.keys.log(run))) for run in runs}) == 3
        for run in runs:
            # As a process does that begins, and dies without a word.
            lease = await bus.leases.take(run, "worker-1")
            await bus.log.append(run, [encode(Event("execution.started"), ts=TS)], fence=lease.fence)
            await bus.index.look_at(run, lease.until_ms)

        async def ending(run: str) -> Entry:
            items = [item async for item in bus.follow(run)]
            last = items[-1]
            assert isinstance(last, Entry)
            return last

        async with asyncio.timeout(patient(20)), bus.healer.running(), bus.healer.running():
            endings = await asyncio.gather(*(ending(run) for run in runs))
        assert [(each.type, each.data["reason"], each.cursor.n) for each in endings] == [
            ("execution.failed", "worker_lost", 2)
        ] * 12
        await bus.activity.flush()
        assert await bus.index.claim_due(100, 1000) == []


async def test_a_heartbeat_renews_leases_on_every_node(three_nodes: Cluster, prefix: str) -> None:
    settings = BusSettings(prefix=prefix, lease_seconds=1)
    async with await open_bus(three_nodes.url, settings=settings) as bus, bus.healer.running():
        runs = [f"{prefix}-{number}" for number in range(12)]

        async def work(run: str) -> None:
            async with bus.execution(run):
                # Longer than the lease: what must not happen takes time.
                await asyncio.sleep(2.5)

        await asyncio.gather(*(work(run) for run in runs))
        for run in runs:
            state = await bus.state(run)
            assert state is not None
            assert (state.status, state.attempt) == ("completed", 1)
        assert len(await bus.index.newest(None)) == 12
