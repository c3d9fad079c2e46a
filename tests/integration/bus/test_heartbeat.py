"""One heartbeat renews everything that a process runs, tells who has lost what, and outlives an outage."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from tailrace.bus import Bus, BusSettings, LeaseLostError, open_bus
from tailrace.bus.errors import BusClosedError, BusError, ExecutionClosedError
from tailrace.bus.ownership.lease import Lease, Renewed
from tests.patience import patient
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

LEASE_SECONDS = 0.6


@pytest.fixture
async def brisk(each_server_url: str, prefix: str) -> AsyncIterator[Bus]:
    settings = BusSettings(prefix=prefix, lease_seconds=LEASE_SECONDS)
    async with await open_bus(each_server_url, settings=settings) as bus:
        yield bus


class Owner:
    """Who holds on to a lease, and what it was told."""

    def __init__(self, bus: Bus, lease: Lease) -> None:
        self.renewed: list[Renewed] = []
        self.lost: list[BusError] = []
        self._news = asyncio.Event()
        self.beat = bus.heartbeat.keep(lease, self._on_renewed, self._on_lost)

    async def until(self, condition: Callable[[Owner], bool], *, seconds: float = 10.0) -> None:
        async with asyncio.timeout(patient(seconds)):
            while not condition(self):
                self._news.clear()
                await self._news.wait()

    async def beats(self, count: int) -> None:
        seen = len(self.renewed)
        await self.until(lambda owner: len(owner.renewed) >= seen + count)

    def _on_renewed(self, renewed: Renewed) -> None:
        self.renewed.append(renewed)
        self._news.set()

    def _on_lost(self, error: BusError) -> None:
        self.lost.append(error)
        self._news.set()


async def due_at(bus: Bus, run: str) -> int | None:
    score = await bus.commands.command("ZSCORE", bus.keys.due(), run)
    return None if score is None else int(score)


async def until_due(bus: Bus, run: str, condition: Callable[[int | None], bool]) -> None:
    async with asyncio.timeout(patient(10)):
        while not condition(await due_at(bus, run)):  # noqa: ASYNC110 - the index tells nobody of a change
            await asyncio.sleep(0.01)


async def test_one_thread_renews_the_leases_of_many(brisk: Bus) -> None:
    leases = [await brisk.leases.take(f"run{i}", "me") for i in range(50)]
    owners = [Owner(brisk, lease) for lease in leases]
    await asyncio.gather(*(owner.beats(2) for owner in owners))
    for owner, lease in zip(owners, leases, strict=True):
        assert owner.renewed[-1].until_ms > lease.until_ms
        due = await due_at(brisk, lease.execution_id)
        assert due is not None
        assert due >= owner.renewed[0].until_ms
        assert not owner.lost
    assert len([thread for thread in threading.enumerate() if thread.name == "tailrace-heartbeat"]) == 1


async def test_the_index_learns_of_a_run_before_its_first_renewal(each_server_url: str, prefix: str) -> None:
    """Or nobody would look for one whose owner dies at once."""
    async with await open_bus(each_server_url, settings=BusSettings(prefix=prefix, lease_seconds=600)) as bus:
        for run in ("first", "second"):
            lease = await bus.leases.take(run, "me")
            Owner(bus, lease)
            await until_due(bus, run, lambda due: due is not None)
            assert await due_at(bus, run) == lease.until_ms
        listed = await bus.index.newest(None)
        assert sorted(execution_id for _, execution_id in listed) == ["first", "second"]


async def test_an_index_that_was_lost_comes_back_with_the_heartbeats(brisk: Bus) -> None:
    owner = Owner(brisk, await brisk.leases.take("run", "me"))
    await owner.beats(1)
    await brisk.commands.command("DEL", brisk.keys.due())
    await until_due(brisk, "run", lambda due: due is not None)


async def test_a_stopped_beat_renews_and_tells_nothing_more(brisk: Bus) -> None:
    stopped = Owner(brisk, await brisk.leases.take("stopped", "me"))
    kept = Owner(brisk, await brisk.leases.take("kept", "me"))
    await stopped.beats(1)
    stopped.beat.stop()
    stopped.beat.stop()
    told = len(stopped.renewed)
    await kept.beats(3)
    assert len(stopped.renewed) == told
    assert not stopped.lost


async def test_an_owner_that_was_overtaken_is_told_once_and_the_others_beat_on(brisk: Bus) -> None:
    lost = Owner(brisk, await brisk.leases.take("lost", "me"))
    kept = Owner(brisk, await brisk.leases.take("kept", "me"))
    await brisk.commands.command("HSET", brisk.keys.meta("lost"), "lease_until", 1)
    await brisk.leases.take("lost", "somebody else")
    await lost.until(lambda owner: bool(owner.lost))
    await kept.beats(3)
    assert [type(error) for error in lost.lost] == [LeaseLostError]
    assert brisk.counters["heartbeat_errors"] == 0


async def test_an_owner_whose_execution_has_ended_is_told_so(brisk: Bus) -> None:
    owner = Owner(brisk, await brisk.leases.take("run", "me"))
    await brisk.commands.command("HSET", brisk.keys.meta("run"), "terminal", "5-5")
    await owner.until(lambda o: bool(o.lost))
    assert [type(error) for error in owner.lost] == [ExecutionClosedError]


async def test_an_owner_learns_with_the_next_beat_that_it_is_to_cancel(brisk: Bus) -> None:
    owner = Owner(brisk, await brisk.leases.take("run", "me"))
    await brisk.commands.command("HSET", brisk.keys.meta("run"), "status", "cancelling")
    await owner.until(lambda o: bool(o.renewed) and o.renewed[-1].status == "cancelling")


async def test_a_renewal_does_not_put_off_the_end_of_a_cancellations_grace(brisk: Bus) -> None:
    owner = Owner(brisk, await brisk.leases.take("run", "me"))
    await owner.beats(1)
    await brisk.commands.command("HSET", brisk.keys.meta("run"), "status", "cancelling")
    # Whoever asked has put this in, and our last renewal may have overwritten it: the healer is asked to look.
    await until_due(brisk, "run", lambda due: due == 0)
    await brisk.index.look_at_all({"run": 12345})
    await owner.beats(3)
    assert await due_at(brisk, "run") == 12345


async def test_what_a_callback_raises_costs_nobody_a_lease(brisk: Bus) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("in a callback")

    brisk.heartbeat.keep(await brisk.leases.take("broken", "me"), broken, broken)
    kept = Owner(brisk, await brisk.leases.take("kept", "me"))
    await kept.beats(3)
    assert not kept.lost
    assert brisk.counters["heartbeat_errors"] >= 1


async def test_leases_outlive_an_outage_longer_than_themselves_when_nobody_took_them(
    fresh_server: RunningServer,
) -> None:
    async with await open_bus(fresh_server.url, settings=BusSettings(lease_seconds=LEASE_SECONDS)) as bus:
        owner = Owner(bus, await bus.leases.take("run", "me"))
        await owner.beats(1)
        await asyncio.to_thread(fresh_server.kill)
        await asyncio.sleep(LEASE_SECONDS * 2)
        await asyncio.to_thread(fresh_server.start)
        await owner.beats(2)
        assert not owner.lost
        assert bus.counters["lease_renew_retries"] + bus.counters["redis_disconnects"] >= 1


async def test_a_closed_bus_keeps_nothing(each_server_url: str, prefix: str) -> None:
    async with await open_bus(each_server_url, settings=BusSettings(prefix=prefix)) as bus:
        lease = await bus.leases.take("run", "me")
        Owner(bus, lease)
    with pytest.raises(BusClosedError):
        Owner(bus, lease)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "heartbeat"]
