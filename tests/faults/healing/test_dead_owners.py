"""Owners that are killed, frozen or deaf: the truth stands in the log in time, once, and nothing of theirs after it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from tailrace.bus import Bus, Entry
from tests.e2e.waiting import eventually
from tests.faults.healing.conftest import BUDGET_SECONDS, LEASE_SECONDS
from tests.faults.healing.deciding import HealerProcess
from tests.faults.healing.deciding import Order as Healing
from tests.faults.healing.owning import Order, OwnerProcess
from tests.faults.healing.story import check_story, names_of, read_story
from tests.integration.bus.follower import Follower
from tests.integration.gateway.live import GatewayProcess
from tests.patience import patient, stretched

pytestmark = pytest.mark.anyio


@pytest.fixture
def order(server_url: str, prefix: str, run: str) -> Order:
    return Order(redis_url=server_url, prefix=prefix, runs=[run], lease_seconds=LEASE_SECONDS)


@pytest.fixture
def healing(server_url: str, prefix: str) -> Healing:
    return Healing(redis_url=server_url, prefix=prefix, lease_seconds=LEASE_SECONDS)


@pytest.fixture
def healer(healing: Healing) -> Iterator[HealerProcess]:
    with HealerProcess(healing) as process:
        yield process


def last_of(follower: Follower) -> Entry:
    return follower.entries[-1]


async def test_with_every_worker_dead_a_gateway_tells_the_truth_in_time(
    bus: Bus, server_url: str, prefix: str, order: Order, run: str
) -> None:
    with (
        GatewayProcess(redis_url=server_url, prefix=prefix, lease_seconds=str(LEASE_SECONDS)) as gateway,
        OwnerProcess(order) as owner,
    ):
        await asyncio.to_thread(gateway.url)
        await owner.until(f"begun {run}")
        async with Follower(bus, run) as follower:
            owner.kill()
            died = time.monotonic()
            await follower.end()
            took = time.monotonic() - died
    print(f"from death to the truth: {took:.2f} s of {BUDGET_SECONDS:.2f} s")
    assert took <= stretched(BUDGET_SECONDS)
    last = last_of(follower)
    assert (last.type, last.data["reason"]) == ("execution.failed", "worker_lost")
    check_story(follower.entries)
    assert follower.entries == await read_story(bus, run)


async def test_all_runs_of_a_killed_owner_are_healed_in_time(
    bus: Bus, healer: HealerProcess, order: Order, run: str
) -> None:
    order.runs = [f"{run}-{i}" for i in range(100)]
    with OwnerProcess(order) as owner:
        await owner.until(*(f"begun {each}" for each in order.runs))
        owner.kill()
        died = time.monotonic()

        async def wait_for(each: str) -> float:
            async with Follower(bus, each) as follower:
                await follower.end()
            return time.monotonic() - died

        took = await asyncio.gather(*(wait_for(each) for each in order.runs))
    print(f"from death to the truth, 100 runs: {min(took):.2f} to {max(took):.2f} s of {BUDGET_SECONDS:.2f} s")
    assert max(took) <= stretched(BUDGET_SECONDS)
    for each in order.runs:
        check_story(await read_story(bus, each))


async def test_a_zombie_that_wakes_after_its_execution_was_told_dead_appends_nothing(
    bus: Bus, healer: HealerProcess, order: Order, run: str
) -> None:
    with OwnerProcess(order) as owner:
        await owner.until(f"begun {run}")
        owner.freeze()
        async with Follower(bus, run) as follower:
            await follower.end(seconds=BUDGET_SECONDS + 5)
        owner.thaw()
        await owner.until_over(run)
    entries = await read_story(bus, run)
    assert entries == follower.entries
    check_story(entries)
    assert names_of(entries) == ["started", "failed"]


async def test_a_zombie_of_one_that_goes_on_elsewhere_adds_nothing_to_it(
    bus: Bus, healer: HealerProcess, order: Order, run: str
) -> None:
    await bus.submit("any", {}, execution_id=run)
    with OwnerProcess(order) as zombie:
        await zombie.until(f"begun {run}")
        zombie.freeze()
        async with Follower(bus, run) as follower:
            await follower.until(lambda f: f.types[-1:] == ["execution.retrying"], seconds=BUDGET_SECONDS + 5)

            async def is_free() -> bool:
                """The healer has let go of it: it does so when its decision stands."""
                state = await bus.state(run)
                return state is not None and state.owner is None

            await eventually(is_free)
            async with bus.execution(run) as second:
                zombie.thaw()
                for k in range(20):
                    await second.append("custom.counted", {"attempt": second.attempt, "k": k})
                    await asyncio.sleep(0.02)
            await follower.end()
    entries = await read_story(bus, run)
    check_story(entries)
    assert names_of(entries) == ["queued", "started", "retrying", "started", "completed"]
    retrying = next(index for index, entry in enumerate(entries) if entry.type == "execution.retrying")
    late = [entry for entry in entries[retrying:] if entry.type == "custom.counted" and entry.data["attempt"] == 1]
    assert not late


async def test_an_owner_that_lives_and_ignores_a_cancellation_is_ended_by_force_when_its_grace_is_over(
    bus: Bus, healer: HealerProcess, order: Order, run: str
) -> None:
    order.does = "ignore"
    with OwnerProcess(order) as owner:
        await owner.until(f"begun {run}")
        async with Follower(bus, run) as follower:
            asked = time.monotonic()
            outcome = await bus.control.cancel(run, by="ann", reason="enough", grace_seconds=1.0)
            await follower.end()
            took = time.monotonic() - asked
        await owner.until(f"ended {run}")
    print(f"from the request to the end by force: {took:.2f} s, of it 1 s of grace")
    assert 1.0 <= took <= stretched(1.0 + LEASE_SECONDS / 3 + 2.0)
    last = last_of(follower)
    assert last.type == "execution.cancelled"
    assert last.data["forced"] is True
    assert (last.data["by"], last.data["request"]) == ("ann", outcome.request)
    check_story(await read_story(bus, run))


async def test_with_the_index_lost_the_runs_of_the_living_are_still_healed_when_they_die(
    bus: Bus, healer: HealerProcess, order: Order, run: str
) -> None:
    with OwnerProcess(order) as owner:
        await owner.until(f"begun {run}")
        await bus.commands.command("DEL", bus.keys.due())
        async with asyncio.timeout(patient(LEASE_SECONDS)):
            while await bus.commands.command("ZSCORE", bus.keys.due(), run) is None:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        async with Follower(bus, run) as follower:
            owner.kill()
            died = time.monotonic()
            await follower.end()
            took = time.monotonic() - died
    assert took <= stretched(BUDGET_SECONDS)
    check_story(follower.entries)


async def test_a_healer_killed_between_taking_and_telling_is_replaced_by_another(
    bus: Bus, healing: Healing, order: Order, run: str
) -> None:
    with OwnerProcess(order) as owner, HealerProcess(healing.model_copy(update={"hang": True})) as hanging:
        assert await hanging.next_line() == "ready"
        await owner.until(f"begun {run}")
        owner.kill()
        assert await hanging.next_line() == f"taken {run}"
        hanging.kill()
        died = time.monotonic()
        with HealerProcess(healing):
            async with Follower(bus, run) as follower:
                await follower.end()
        took = time.monotonic() - died
    print(f"from a healer's death to the truth: {took:.2f} s")
    last = last_of(follower)
    assert last.data["reason"] == "worker_lost"
    assert ".heal" not in last.data["lost_owner"]
    check_story(follower.entries)
