"""The tail of a cluster whose map names nodes that do not answer, or that has keys which cannot be read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from tailrace.bus.deployment import Standalone
from tailrace.bus.errors import BusClosedError, BusUnavailableError
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.cursor import START
from tailrace.bus.redis.address import dial_of
from tailrace.bus.redis.cluster import ClusterConnection
from tailrace.bus.redis.commands import Commands
from tailrace.bus.redis.slots import SLOTS, Address, SlotMap, slot_of_key
from tailrace.bus.tail.cluster import ClusterTail
from tests.contract.recorder import Recorder
from tests.servers import RunningServer, free_port, spawn_server

pytestmark = pytest.mark.anyio

SECONDS = 1.0
# With the shortest waits that there can be: 0.02, 0.04, 0.08, 0.16, 0.32, 0.5.
MOST_READS = 12
LOW = next(f"k{n}" for n in range(100) if slot_of_key(f"k{n}") < SLOTS // 2)
HIGH = next(f"k{n}" for n in range(100) if slot_of_key(f"k{n}") >= SLOTS // 2)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with spawn_server("valkey", directory=tmp_path_factory.mktemp("node"), port=free_port()) as server:
        yield server


class Mapped:
    """The part of a cluster's connection that a tail needs; the map is what the test says."""

    def __init__(self, low: Address, high: Address) -> None:
        self.map: SlotMap | None = None
        self.set(low, high)

    def set(self, low: Address | None, high: Address | None) -> None:
        rows = [(0, SLOTS // 2 - 1, low), (SLOTS // 2, SLOTS - 1, high)]
        starts, ends, owners = zip(*((start, end, owner) for start, end, owner in rows if owner), strict=True)
        self.map = SlotMap(starts, ends, owners)

    def owner(self, slot: int | None) -> Address:
        assert self.map is not None
        assert slot is not None
        owner = self.map.owner(slot)
        if owner is None:
            raise BusUnavailableError(f"no node serves slot {slot}")
        return owner

    async def refresh(self) -> None:
        pass


class World:
    def __init__(self, tail: ClusterTail, cluster: Mapped, commands: Commands, counters: Counters) -> None:
        self.tail = tail
        self.cluster = cluster
        self.counters = counters
        self._commands = commands

    async def command(self, *command: Any) -> Any:
        return await self._commands.command(*command)

    async def add(self, key: str) -> None:
        await self.command("XADD", key, "*", "t", "x")

    def watch(self, key: str) -> Recorder:
        recorder = Recorder()
        watch = self.tail.watch(key, START, recorder)
        recorder.resume = lambda: watch.resume(recorder.last if recorder.cursors else START)
        return recorder


@asynccontextmanager
async def a_world(node: RunningServer, low: Address | None = None) -> AsyncGenerator[World, None]:
    counters = Counters()
    commands = await Standalone(dial_of(node.url), counters).open_line("test")
    await commands.command("FLUSHALL")
    cluster = Mapped(low or here(node), here(node))
    tail = ClusterTail(
        cast("ClusterConnection", cluster), lambda at: dial_of(f"redis://{at[0]}:{at[1]}"), counters=counters
    )
    await tail.start()
    try:
        yield World(tail, cluster, commands, counters)
    finally:
        await tail.aclose()
        await commands.aclose()


def here(node: RunningServer, host: str = "127.0.0.1") -> Address:
    assert node.port is not None
    return host, node.port


async def test_attack_60_one_node_that_does_not_answer_keeps_no_watch_from_the_others(node: RunningServer) -> None:
    async with a_world(node) as world:
        low, high = world.watch(LOW), world.watch(HIGH)
        for key, recorder in ((LOW, low), (HIGH, high)):
            await world.add(key)
            await recorder.until(lambda r: len(r.cursors) == 1)
        world.cluster.set(("127.0.0.1", free_port()), here(node, "localhost"))
        world.tail.reroute()
        await high.until(lambda r: r.disturbances == ["moved to another node"])
        await world.add(HIGH)
        await high.until(lambda r: len(r.cursors) == 2)
        assert world.counters["tail_unreachable_nodes"] == 1
        # Once the map names a node that answers, its watches go on too.
        await world.add(LOW)
        world.cluster.set(here(node), here(node, "localhost"))
        world.tail.reroute()
        await low.until(lambda r: len(r.cursors) == 2)


async def test_attack_60_a_node_that_does_not_answer_at_the_start_keeps_no_watch_from_the_others(
    node: RunningServer,
) -> None:
    async with a_world(node, low=("127.0.0.1", free_port())) as world:
        low, high = world.watch(LOW), world.watch(HIGH)
        await world.add(LOW)
        await world.add(HIGH)
        await high.until(lambda r: len(r.cursors) == 1)
        world.cluster.set(here(node), here(node))
        world.tail.reroute()
        await low.until(lambda r: len(r.cursors) == 1)


async def test_a_cluster_of_which_no_node_answers_has_no_tail() -> None:
    nobody = ("127.0.0.1", free_port())
    tail = ClusterTail(
        cast("ClusterConnection", Mapped(nobody, nobody)),
        lambda at: dial_of(f"redis://{at[0]}:{at[1]}"),
        counters=Counters(),
    )
    with pytest.raises(BusUnavailableError):
        await tail.start()


async def test_attack_60_slots_that_no_node_serves_keep_no_watch_from_moving(node: RunningServer) -> None:
    async with a_world(node) as world:
        low, high = world.watch(LOW), world.watch(HIGH)
        world.cluster.set(None, here(node, "localhost"))
        world.tail.reroute()
        await high.until(lambda r: r.disturbances == ["moved to another node"])
        await world.add(HIGH)
        await high.until(lambda r: len(r.cursors) == 1)
        await world.add(LOW)
        world.cluster.set(here(node, "localhost"), here(node, "localhost"))
        world.tail.reroute()
        await low.until(lambda r: len(r.cursors) == 1)


async def test_attack_60_closing_tells_also_those_whose_node_is_not_there(node: RunningServer) -> None:
    async with a_world(node) as world:
        world.cluster.set(("127.0.0.1", free_port()), here(node))
        waiting, watching = Recorder(), Recorder()
        world.tail.watch(LOW, START, waiting)
        world.tail.watch(HIGH, START, watching)
        await world.tail.aclose()
        assert waiting.disturbances == ["closed"]
        assert watching.disturbances == ["closed"]
        with pytest.raises(BusClosedError):
            world.tail.watch(LOW, START, Recorder())


async def test_attack_57_a_key_that_cannot_be_read_is_left_alone_on_a_cluster(node: RunningServer) -> None:
    async with a_world(node) as world:
        await world.command("SET", LOW, "a string")
        bad, good = world.watch(LOW), world.watch(HIGH)
        await bad.until(lambda r: r.disturbances != [])
        ends = asyncio.get_running_loop().time() + SECONDS
        written = 0
        while asyncio.get_running_loop().time() < ends:
            await world.add(HIGH)
            written += 1
            await asyncio.sleep(0.01)
        await good.until(lambda r: len(r.cursors) == written)
        assert good.disturbances == []
        assert len(bad.disturbances) <= MOST_READS
        assert world.counters["tail_refused_keys"] == 1
        await world.command("DEL", LOW)
        await world.add(LOW)
        await bad.until(lambda r: len(r.cursors) == 1)
