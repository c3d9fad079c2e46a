"""Redis restarts, crashes, forgets, is flushed: nothing is lost silently, nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tailrace.bus import (
    Bus,
    BusSettings,
    BusUnavailableError,
    Entry,
    ExecutionClosedError,
    Gap,
    LeaseLostError,
    open_bus,
)
from tests.integration.bus.follower import Follower
from tests.servers import RunningServer, spawn_server

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["tracking", "blocking"])
async def bus(request: pytest.FixtureRequest, fresh_server: RunningServer) -> AsyncIterator[Bus]:
    """On a server of the test's own, with AOF, by each kind of tail."""
    settings = BusSettings(tail=request.param, lease_seconds=1.0)
    async with await open_bus(fresh_server.url, settings=settings) as opened:
        yield opened


def numbers(follower: Follower) -> list[int]:
    return [entry.data for entry in follower.entries if entry.type == "a"]


async def emit(bus: Bus, run: str, first: int, last: int) -> None:
    publisher = bus.publisher(run)
    for number in range(first, last + 1):
        await publisher.emit("a", number)
    await publisher.aclose()


@pytest.mark.parametrize("how", ["restart", "crash"])
async def test_a_run_goes_on_over_a_restart_of_redis_with_nothing_lost_and_nothing_doubled(
    bus: Bus, fresh_server: RunningServer, how: str
) -> None:
    async with Follower(bus, "run") as follower:
        async with bus.execution("run") as execution:
            for number in range(300):
                await execution.emit("a", number)
                if number == 100:
                    await follower.until(lambda f: len(f.entries) > 10)
                    if how == "crash":
                        await asyncio.to_thread(fresh_server.kill)
                        await asyncio.to_thread(fresh_server.start)
                    else:
                        await asyncio.to_thread(fresh_server.restart)
                if number % 10 == 0:
                    await asyncio.sleep(0.002)
        await follower.end()
    assert numbers(follower) == list(range(300))
    assert follower.gaps == []
    assert follower.types[-1] == "execution.completed"


async def test_case_02_a_flush_while_a_run_is_followed_is_one_gap_and_the_run_goes_on(bus: Bus) -> None:
    async with Follower(bus, "run") as follower:
        async with bus.execution("run") as execution:
            for number in range(10):
                await execution.emit("a", number)
            await execution.publisher.flush()
            await follower.until(lambda f: len(f.entries) == 11)
            await bus.commands.command("FLUSHALL")
            for number in range(10, 20):
                await execution.emit("a", number)
        await follower.end()
        assert numbers(follower) == list(range(20))
        assert len(follower.gaps) == 1
        assert follower.types.index(f"gap:{follower.gaps[0].reason}") == 11
        async with Follower(bus, "run") as newcomer:
            # Who comes later is told that the beginning is missing.
            await newcomer.end()
            assert isinstance(newcomer.items[0], Gap)
            assert numbers(newcomer) == list(range(10, 20))
            assert len(newcomer.gaps) == 1


async def test_case_02_a_flush_that_is_followed_by_nothing_is_told_all_the_same(fresh_server: RunningServer) -> None:
    async with (
        await open_bus(fresh_server.url, settings=BusSettings(tail="tracking")) as bus,
        Follower(bus, "run") as follower,
    ):
        await emit(bus, "run", 0, 4)
        await follower.until(lambda f: len(f.entries) == 5)
        await bus.commands.command("FLUSHALL")
        await follower.until(lambda f: f.types == ["a"] * 5 + ["gap:flushed"])


async def test_a_run_that_was_flushed_keeps_its_lease_and_its_ending(bus: Bus) -> None:
    async with bus.execution("run") as execution:
        await execution.append("a", 1)
        await bus.commands.command("FLUSHALL")
        # More than a whole lease of silence.
        await asyncio.sleep(1.2)
        state = await bus.state("run")
        assert state is not None
        assert state.owner == execution.owner
    assert bus.counters["leases_lost"] == 0
    async with Follower(bus, "run") as follower:
        await follower.end()
        assert follower.types == ["gap:flushed", "execution.completed"]


async def test_after_a_flush_whoever_takes_the_run_first_has_it_and_the_other_is_stopped(bus: Bus) -> None:
    async def first() -> None:
        async with bus.execution("run") as execution:
            await execution.append("a", 1)
            taken.set()
            await asyncio.sleep(60)

    taken = asyncio.Event()
    task = asyncio.create_task(first())
    await taken.wait()
    await bus.commands.command("FLUSHALL")
    async with bus.execution("run") as second:
        with pytest.raises(LeaseLostError):
            await task
        await second.append("a", 2)
    async with Follower(bus, "run") as follower:
        await follower.end()
        assert numbers(follower) == [2]


class Rewinding:
    """A server that forgets: it comes back with what was saved, as a replica that lagged would after a failover."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server

    async def save(self, bus: Bus) -> None:
        await bus.commands.command("SAVE")

    async def rewind(self) -> None:
        await asyncio.to_thread(self._server.kill)
        await asyncio.to_thread(self._server.start)


@pytest.fixture
async def forgetful(tmp_path: Path) -> AsyncIterator[tuple[Bus, Rewinding]]:
    directory = tmp_path / "forgetful"
    directory.mkdir()
    with spawn_server("valkey", directory=directory) as server:
        async with await open_bus(server.url) as bus:
            yield bus, Rewinding(server)


async def test_case_02_a_log_rewound_behind_a_reader_is_a_gap_for_it(forgetful: tuple[Bus, Rewinding]) -> None:
    bus, server = forgetful
    async with Follower(bus, "run") as follower:
        await emit(bus, "run", 0, 9)
        await server.save(bus)
        await emit(bus, "run", 10, 19)
        await follower.until(lambda f: len(f.entries) == 20)
        await server.rewind()
        await follower.until(lambda f: len(f.gaps) == 1)
        assert follower.gaps[0].reason == "rewound"
        assert follower.gaps[0].requested == follower.entries[-1].cursor
        await emit(bus, "run", 20, 24)
        await follower.until(lambda f: len(f.entries) == 25)
        assert numbers(follower) == [*range(20), *range(20, 25)]
        assert len(follower.gaps) == 1


async def test_events_that_redis_had_confirmed_and_forgot_are_a_hole_for_everybody(
    forgetful: tuple[Bus, Rewinding],
) -> None:
    """Their producer goes on counting; a log that then looked whole would be a lie."""
    bus, server = forgetful
    publisher = bus.publisher("run")
    for number in range(10):
        await publisher.append("a", number)
    await server.save(bus)
    for number in range(10, 15):
        await publisher.append("a", number)
    await server.rewind()
    for number in range(15, 20):
        await publisher.append("a", number)
    await publisher.append("execution.completed")
    await publisher.aclose()
    async with Follower(bus, "run") as follower:
        await follower.end()
    assert numbers(follower) == [*range(10), *range(15, 20)]
    assert follower.types.index("gap:hole") == 10
    assert len(follower.gaps) == 1


async def test_a_log_rewound_before_its_ending_can_be_ended_again(forgetful: tuple[Bus, Rewinding]) -> None:
    bus, server = forgetful
    await emit(bus, "run", 0, 2)
    await server.save(bus)
    publisher = bus.publisher("run")
    await publisher.append("execution.completed")
    await publisher.aclose()
    await server.rewind()
    again = bus.publisher("run")
    await again.append("execution.failed", {"reason": "lost"})
    await again.aclose()
    async with Follower(bus, "run") as follower:
        assert (await follower.end())[-1] == "execution.failed"
    with pytest.raises(ExecutionClosedError):
        await bus.publisher("run").append("a")


async def test_a_reader_that_replays_while_redis_is_away_is_told_and_may_come_again(
    fresh_server: RunningServer,
) -> None:
    async with await open_bus(fresh_server.url) as bus:
        await emit(bus, "run", 0, 99)
        await asyncio.to_thread(fresh_server.kill)
        async with Follower(bus, "run") as follower:
            with pytest.raises(BusUnavailableError):
                await follower.end()
        await asyncio.to_thread(fresh_server.start)
        publisher = bus.publisher("run")
        await publisher.append("execution.completed")
        await publisher.aclose()
        async with Follower(bus, "run") as follower:
            await follower.end()
            assert numbers(follower) == list(range(100))


async def test_an_evicted_state_does_not_stop_a_live_run(bus: Bus) -> None:
    """Case 18 asks for another eviction policy; until then at least nothing is doubled or hidden."""
    async with Follower(bus, "run") as follower:
        publisher = bus.publisher("run")
        for number in range(10):
            await publisher.append("a", number)
            if number == 4:
                await bus.commands.command("DEL", bus.keys.meta("run"))
        await publisher.append("execution.completed")
        await publisher.aclose()
        await follower.end()
    assert numbers(follower) == list(range(10))
    assert follower.gaps == []
    assert [item.cursor.n for item in follower.items if isinstance(item, Entry)] == list(range(1, 12))
