"""Heartbeats and healers on a real cluster: the index stands in other slots, on other nodes, than what it points at."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tailrace.bus import Bus, BusSettings, Entry, open_bus
from tailrace.bus.errors import BusUnavailableError
from tailrace.bus.model.codec import encode
from tailrace.bus.model.event import Event
from tailrace.bus.redis.slots import slot_of_key
from tests.e2e.waiting import eventually
from tests.faults.healing.owning import Order, OwnerProcess
from tests.integration.deployment.clusters import Cluster, cluster
from tests.patience import patient, stretched

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


async def test_a_killed_process_loses_its_executions_at_once_though_their_leases_are_long(
    tmp_path: Path, prefix: str
) -> None:
    """On whichever nodes they are; and again when the node that has the sessions is another than before."""
    with cluster(tmp_path, replicas=3) as made:
        async with await open_bus(made.url, settings=BusSettings(prefix=prefix)) as bus, bus.healer.running():
            home_slot = slot_of_key(bus.keys.sessions())
            home = made.owner(home_slot)
            runs = [f"{prefix}-{number}" for number in range(24)]
            elsewhere = [run for run in runs if made.owner(slot_of_key(bus.keys.log(run))) != home]
            for begun, failed_over in ((runs[:6], False), (elsewhere[-6:], True)):
                with OwnerProcess(Order(redis_url=made.url, prefix=prefix, runs=begun, lease_seconds=30)) as owner:
                    await owner.until(*(f"begun {run}" for run in begun))
                    if failed_over:
                        made.nodes[home].kill()
                        await eventually(lambda: is_another(made, home_slot, home))
                    await eventually(partial(is_registered, bus, begun[-1]))
                    owner.kill()
                    died = time.monotonic()
                    async with asyncio.timeout(patient(20)):
                        for run in begun:
                            last = [item async for item in bus.follow(run)][-1]
                            assert isinstance(last, Entry)
                            assert (last.type, last.data["reason"]) == ("execution.failed", "worker_lost")
                took = time.monotonic() - died
                print(f"from death to the truth: {took:.2f} s")
                # A lease is 30 s. After a failover, healers give owners a third of it to connect again.
                assert took <= stretched(20.0 if failed_over else 2.0)


async def is_another(made: Cluster, slot: int, before: int) -> bool:
    """Another node serves the slot."""
    return await asyncio.to_thread(made.owner, slot) != before


async def is_registered(bus: Bus, run: str) -> bool:
    """The owner's session is registered with the server that has the sessions."""
    try:
        session = await bus.commands.command("HGET", bus.keys.meta(run), "session")
        registered = await bus.commands.command("HGET", bus.keys.sessions(), session)
        held = await bus.commands.command("SMEMBERS", bus.keys.session_executions((session or b"").decode()))
        if run.encode() not in held:
            return False
        info = await bus._deployment.beside(bus.commands, bus.keys.sessions()).command("INFO", "server")
    except BusUnavailableError:
        # While it fails over.
        return False
    return registered is not None and registered.partition(b" ")[2] in info


@pytest.mark.parametrize(
    # A promotion takes seconds where the machine is busy, and has to come within a lease.
    ("replicas", "lease_seconds", "away_seconds"),
    [(3, 9, 12), (0, 3, 9)],
    ids=["promoted", "frozen"],
)
async def test_attack_02_executions_of_healthy_nodes_notice_nothing_of_a_dead_one(
    tmp_path: Path, prefix: str, replicas: int, lease_seconds: int, away_seconds: int
) -> None:
    """One node is killed and its replica promoted, or frozen for longer than a lease and then back."""
    settings = BusSettings(prefix=prefix, lease_seconds=lease_seconds)
    over = asyncio.Event()
    with cluster(tmp_path, replicas=replicas, full_coverage=False) as made:
        async with (
            await open_bus(made.url, settings=settings) as owners,
            await open_bus(made.url, settings=settings) as others,
            others.healer.running(),
            owners.healer.running(),
        ):
            runs = [f"{prefix}-{number}" for number in range(12)]
            nodes = {run: made.owner(slot_of_key(owners.keys.log(run))) for run in runs}
            assert len(set(nodes.values())) == 3
            # The node with the index of what is due stays, so that healers look at all of it.
            dead = next(node for node in range(3) if node != made.owner(slot_of_key(owners.keys.due())))
            begun = asyncio.Semaphore(0)

            async def work(run: str) -> None:
                async with owners.execution(run) as execution:
                    await execution.emit("custom.begun")
                    begun.release()
                    await over.wait()

            working = {run: asyncio.create_task(work(run)) for run in runs}
            async with asyncio.timeout(patient(30)):
                for _ in runs:
                    await begun.acquire()
            if replicas:
                made.nodes[dead].kill()
            else:
                made.nodes[dead].pause()
            # What must not happen takes time: more than a lease.
            await asyncio.sleep(away_seconds)
            if not replicas:
                made.nodes[dead].resume()
            over.set()
            await asyncio.wait(working.values(), timeout=patient(20))
            healthy = [run for run in runs if replicas or nodes[run] != dead]
            for run in healthy:
                assert working[run].exception() is None, run
                state = await owners.state(run)
                assert state is not None
                assert (state.status, state.attempt) == ("completed", 1), run
            for task in working.values():
                task.cancel()
                if not task.cancelled() and task.done():
                    task.exception()
