"""Redis dies and comes back with its data while runs are under way: their owners live, and keep them."""

from __future__ import annotations

import asyncio

import pytest

from tailrace.bus import BusSettings, open_bus
from tests.faults.healing.conftest import LEASE_SECONDS
from tests.faults.healing.deciding import HealerProcess
from tests.faults.healing.deciding import Order as Healing
from tests.faults.healing.owning import Order, OwnerProcess
from tests.faults.healing.story import check_story, names_of, read_story
from tests.integration.bus.follower import Follower
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio


async def test_an_outage_longer_than_the_lease_costs_no_living_owner_its_run(
    fresh_server: RunningServer, prefix: str, run: str
) -> None:
    """While Redis was away no owner could renew; healers let those that go on all the same come first."""
    url = fresh_server.url
    order = Order(redis_url=url, prefix=prefix, runs=[run], lease_seconds=LEASE_SECONDS, on_uncertain="continue")
    healing = Healing(redis_url=url, prefix=prefix, lease_seconds=LEASE_SECONDS)
    settings = BusSettings(prefix=prefix, lease_seconds=LEASE_SECONDS)
    with OwnerProcess(order) as owner, HealerProcess(healing) as healer:
        await owner.until(f"begun {run}")
        assert await healer.next_line() == "ready"
        await asyncio.to_thread(fresh_server.kill)
        await asyncio.sleep(LEASE_SECONDS * 2)
        await asyncio.to_thread(fresh_server.start)
        async with await open_bus(url, settings=settings) as bus:
            before = len(await read_story(bus, run))
            async with Follower(bus, run) as follower:
                # Well past the time at which a healer would have taken it.
                await follower.until(lambda f: len(f.entries) > before + 400, seconds=60)
                entries = await read_story(bus, run)
                check_story(entries, ended=False)
                assert names_of(entries) == ["started"]
                owner.kill()
                await follower.end()
            check_story(await read_story(bus, run))


async def test_a_healer_that_starts_with_redis_lets_the_owners_come_first(
    fresh_server: RunningServer, prefix: str, run: str
) -> None:
    """A host that boots again: it has not seen that Redis was away."""
    url = fresh_server.url
    order = Order(redis_url=url, prefix=prefix, runs=[run], lease_seconds=LEASE_SECONDS, on_uncertain="continue")
    settings = BusSettings(prefix=prefix, lease_seconds=LEASE_SECONDS)
    with OwnerProcess(order) as owner:
        await owner.until(f"begun {run}")
        await asyncio.to_thread(fresh_server.kill)
        await asyncio.sleep(LEASE_SECONDS * 2)
        owner.freeze()
        await asyncio.to_thread(fresh_server.start)
        with HealerProcess(Healing(redis_url=url, prefix=prefix, lease_seconds=LEASE_SECONDS)) as healer:
            assert await healer.next_line() == "ready"
            async with await open_bus(url, settings=settings) as bus:
                # What must not happen takes time: three of its turns.
                await asyncio.sleep(1.5)
                owner.thaw()
                before = len(await read_story(bus, run))
                async with Follower(bus, run) as follower:
                    await follower.until(lambda f: len(f.entries) > before + 300, seconds=60)
                entries = await read_story(bus, run)
                check_story(entries, ended=False)
                assert names_of(entries) == ["started"]
