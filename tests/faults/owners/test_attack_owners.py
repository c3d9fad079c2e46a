"""Owners that live keep their executions; those that are gone are replaced at once, and no two act at a time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tailrace.bus import Bus, BusSettings, LeaseHeldError, LeaseLostError, open_bus
from tailrace.bus.errors import BusError
from tailrace.bus.ownership.gate import RECONNECTED_SECONDS
from tests.e2e.waiting import eventually
from tests.faults.bus.lossy_proxy import LossyProxy
from tests.faults.healing.owning import Order as Owning
from tests.faults.healing.owning import OwnerProcess
from tests.faults.healing.story import check_story, names_of, read_story
from tests.faults.owners.acting import ActingProcess, Order
from tests.faults.workers.working import Order as Working
from tests.faults.workers.working import WorkerProcess
from tests.integration.bus.follower import Follower
from tests.patience import patient, stretched
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

LONG_LEASE_SECONDS = 30.0
TAKE_OVER_SECONDS = 2.0


async def test_attack_05_an_owner_that_is_killed_is_replaced_within_two_seconds_though_its_lease_is_long(
    server_url: str, prefix: str, run: str
) -> None:
    settings = BusSettings(prefix=prefix, lease_seconds=LONG_LEASE_SECONDS)
    order = Owning(redis_url=server_url, prefix=prefix, runs=[run], lease_seconds=LONG_LEASE_SECONDS)
    async with await open_bus(server_url, settings=settings) as bus:
        with OwnerProcess(order) as owner:
            await owner.until(f"begun {run}")
            await eventually(lambda: is_held_by_a_session(bus, run))
            async with bus.healer.running(), Follower(bus, run) as follower:
                killed_ms = time.time_ns() // 1_000_000
                owner.kill()
                await follower.end(seconds=LONG_LEASE_SECONDS / 2)
        entries = await read_story(bus, run)
        check_story(entries)
        assert names_of(entries) == ["started", "failed"]
        seconds = (entries[-1].cursor.ms - killed_ms) / 1000
        print(f"taken over {seconds:.2f} s after kill -9")
        assert seconds < stretched(TAKE_OVER_SECONDS)


async def is_held_by_a_session(bus: Bus, run: str) -> bool:
    session = await bus.commands.command("HGET", bus.keys.meta(run), "session")
    if session is None or not await bus.commands.command("HEXISTS", bus.keys.sessions(), session):
        return False
    return bool(await bus.commands.command("SISMEMBER", bus.keys.session_executions(session.decode()), run))


async def test_attack_01_an_outage_shorter_than_the_lease_costs_nobody_anything(
    fresh_server: RunningServer, prefix: str
) -> None:
    """Two workers, executions that may not be repeated and others: Redis is away for half a lease, twice."""
    lease_seconds = 4.0
    url = fresh_server.url
    settings = BusSettings(prefix=prefix, lease_seconds=lease_seconds)
    working = Working(redis_url=url, prefix=prefix, lease_seconds=lease_seconds)
    runs = [f"r{n}" for n in range(8)]
    with WorkerProcess(working) as one, WorkerProcess(working) as two:
        await asyncio.gather(one.until_ready(), two.until_ready())
        async with await open_bus(url, settings=settings) as bus:
            for number, each in enumerate(runs):
                given = {"events": 600, "pause_seconds": 0.02}
                await bus.submit("once" if number % 2 else "stubborn", given, execution_id=each)
            await eventually(lambda: stands(bus, runs, "running"))
            for _ in range(2):
                await asyncio.to_thread(fresh_server.kill)
                await asyncio.sleep(lease_seconds / 2)
                await asyncio.to_thread(fresh_server.start)
                await asyncio.sleep(lease_seconds / 2)
            await eventually(lambda: stands(bus, runs), seconds=40)
            for each in runs:
                story = await read_story(bus, each)
                told = [entry.data for entry in story if entry.type == "execution.retrying"]
                assert names_of(story) == ["queued", "started", "completed"], (each, told)


async def test_attack_01_an_outage_of_seconds_is_no_death_of_an_owner_that_reconnects_late(
    fresh_server: RunningServer, prefix: str, run: str
) -> None:
    """All connections are gone at once then: who is slower than another to connect again is not dead."""
    url = fresh_server.url
    settings = BusSettings(prefix=prefix, lease_seconds=LONG_LEASE_SECONDS)
    order = Owning(redis_url=url, prefix=prefix, runs=[run], lease_seconds=LONG_LEASE_SECONDS)
    async with await open_bus(url, settings=settings) as bus:
        with OwnerProcess(order) as owner:
            await owner.until(f"begun {run}")
            await eventually(lambda: is_held_by_a_session(bus, run))
            async with bus.healer.running():
                await asyncio.to_thread(fresh_server.kill)
                owner.freeze()
                await asyncio.to_thread(fresh_server.start)
                await eventually(lambda: is_running(bus, run))
                # What must not happen takes time: longer than it takes to replace one that is dead.
                await asyncio.sleep(RECONNECTED_SECONDS + TAKE_OVER_SECONDS + 1)
                assert await is_running(bus, run)
                owner.thaw()
                # From then on its session counts again.
                await eventually(lambda: is_registered_here(bus, run))
                owner.kill()
                await eventually(lambda: has_failed(bus, run))


async def is_running(bus: Bus, run: str) -> bool:
    state = await bus.state(run)
    return state is not None and (state.status, state.attempt) == ("running", 1)


async def has_failed(bus: Bus, run: str) -> bool:
    state = await bus.state(run)
    return state is not None and state.status == "failed"


async def is_registered_here(bus: Bus, run: str) -> bool:
    session = await bus.commands.command("HGET", bus.keys.meta(run), "session")
    registered = await bus.commands.command("HGET", bus.keys.sessions(), session)
    run_id = (await bus.commands.command("INFO", "server")).partition(b"run_id:")[2].partition(b"\r")[0]
    return bool(registered) and registered.endswith(run_id)


async def test_attack_01_an_outage_longer_than_the_lease_costs_no_attempt_and_no_event(
    fresh_server: RunningServer, prefix: str
) -> None:
    """Owners stop before the lease runs out, and hand back when Redis answers again."""
    lease_seconds = 2.0
    url = fresh_server.url
    settings = BusSettings(prefix=prefix, lease_seconds=lease_seconds)
    working = Working(redis_url=url, prefix=prefix, lease_seconds=lease_seconds)
    runs = [f"r{n}" for n in range(4)]
    with WorkerProcess(working) as one, WorkerProcess(working) as two:
        await asyncio.gather(one.until_ready(), two.until_ready())
        async with await open_bus(url, settings=settings) as bus:
            for each in runs:
                await bus.submit("once", {"events": 150, "pause_seconds": 0.02}, execution_id=each)
            await eventually(lambda: stands(bus, runs, "running"))
            await asyncio.to_thread(fresh_server.kill)
            await asyncio.sleep(lease_seconds * 2)
            await asyncio.to_thread(fresh_server.start)
            await eventually(lambda: stands(bus, runs), seconds=40)
            for each in runs:
                entries = await read_story(bus, each)
                names = names_of(entries)
                assert names[-1] == "completed", (each, names, entries[-1].data)
                retrying = [entry.data for entry in entries if entry.type == "execution.retrying"]
                assert [data["reason"] for data in retrying] == ["lease_uncertain"] * len(retrying)
                state = await bus.state(each)
                assert state is not None
                assert state.attempt == 1


async def test_attack_01_a_program_that_takes_its_execution_again_after_a_long_outage_spends_no_attempt(
    fresh_server: RunningServer, prefix: str
) -> None:
    lease_seconds = 2.0
    settings = BusSettings(prefix=prefix, lease_seconds=lease_seconds)
    async with await open_bus(fresh_server.url, settings=settings) as bus:

        async def work() -> None:
            async with bus.execution("mine") as execution:
                await execution.append("custom.n", {"n": 1})
                await asyncio.to_thread(fresh_server.kill)
                await asyncio.sleep(patient(20))

        with pytest.raises(LeaseLostError):
            await work()
        await asyncio.sleep(lease_seconds)
        await asyncio.to_thread(fresh_server.start)
        attempts = []

        async def is_done() -> bool:
            """The program has it again, and ends it."""
            try:
                async with bus.execution("mine") as again:
                    attempts.append(again.attempt)
            except BusError:
                return False
            return True

        await eventually(is_done)
        assert attempts == [1]
        state = await bus.state("mine")
        assert state is not None
        assert (state.status, state.attempt) == ("completed", 1)


async def test_attack_07_a_worker_that_cannot_renew_ends_when_a_thread_of_it_does_not_stop(
    fresh_server: RunningServer, prefix: str, run: str, tmp_path: Path
) -> None:
    lease_seconds = 2.0
    url, acts = fresh_server.url, tmp_path / "acts"
    settings = BusSettings(prefix=prefix, lease_seconds=lease_seconds)
    with WorkerProcess(Working(redis_url=url, prefix=prefix, lease_seconds=lease_seconds)) as worker:
        await worker.until_ready()
        async with await open_bus(url, settings=settings) as bus:
            await bus.submit("act", {"acts": str(acts)}, execution_id=run)
            await eventually(lambda: acts_in(acts))
            await asyncio.to_thread(fresh_server.kill)
            killed_ms = time.time_ns() // 1_000_000
            await worker.until_dead()
            last_ms = int(acts.read_text().split()[-1])
            print(f"the thread acted for {last_ms - killed_ms} ms after Redis had gone; the lease has 2000 ms")
            assert last_ms - killed_ms < lease_seconds * 1000


async def test_attack_05_a_body_that_blocks_its_loop_keeps_its_lease_and_the_log_says_so(
    server_url: str, prefix: str, run: str
) -> None:
    lease_seconds = 1.0
    settings = BusSettings(prefix=prefix, lease_seconds=lease_seconds)
    order = Owning(
        redis_url=server_url,
        prefix=prefix,
        runs=[run],
        lease_seconds=lease_seconds,
        does="block",
        block_seconds=4 * lease_seconds,
    )
    async with await open_bus(server_url, settings=settings) as bus:
        with OwnerProcess(order) as owner:
            await owner.until(f"begun {run}")
            async with bus.healer.running(), Follower(bus, run) as follower:
                await follower.until(lambda f: len(f.entries) > 30, seconds=30)
                assert "health" in [entry.type for entry in follower.entries]
            assert names_of(await read_story(bus, run)) == ["started"]


async def test_attack_06_an_owner_in_a_black_hole_has_stopped_when_another_begins(
    tcp_server: RunningServer, prefix: str, run: str, tmp_path: Path
) -> None:
    lease_seconds = 3.0
    settings = BusSettings(prefix=prefix, lease_seconds=lease_seconds)
    assert tcp_server.port is not None
    async with LossyProxy(tcp_server.port) as proxy, await open_bus(tcp_server.url, settings=settings) as bus:
        order = Order(
            redis_url=proxy.url, prefix=prefix, run=run, lease_seconds=lease_seconds, acts=str(tmp_path / "acts")
        )
        with ActingProcess(order) as owner:
            assert (await owner.next_line()).strip() == "begun"
            proxy.request = lambda _: "swallow"
            proxy.reply = lambda _: "swallow"
            holed = time.monotonic()
            begun_ms = 0
            async with asyncio.timeout(patient(20)):
                while not begun_ms:
                    try:
                        async with bus.execution(run):
                            begun_ms = time.time_ns() // 1_000_000
                            await asyncio.sleep(1.0)
                    except LeaseHeldError:
                        await asyncio.sleep(0.02)
            assert (await owner.next_line()).strip() == "over LeaseLostError"
            last_ms = owner.last_act_ms
            print(f"taken over after {time.monotonic() - holed - 1:.2f} s; {begun_ms - last_ms} ms after the last act")
            assert last_ms < begun_ms


async def test_attack_11_a_flush_while_it_is_paused_leaves_it_paused_and_controllable(
    fresh_server: RunningServer, prefix: str, run: str
) -> None:
    settings = BusSettings(prefix=prefix, lease_seconds=0.9)
    async with await open_bus(fresh_server.url, settings=settings) as bus:
        reached = asyncio.Event()

        async def body() -> None:
            async with bus.execution(run, pipeline="ingest", tenant="acme", labels={"user": "ann"}) as execution:
                while not reached.is_set():
                    await execution.pause_point()
                    await asyncio.sleep(0.01)
                await execution.pause_point()

        task = asyncio.create_task(body())
        async with asyncio.timeout(patient(60)):
            await eventually(lambda: stands(bus, [run], "running"))
            await bus.control.pause(run)
            await eventually(lambda: stands(bus, [run], "paused"))
            before = await bus.state(run)
            await bus.commands.command("FLUSHALL")
            await eventually(lambda: stands(bus, [run], "paused"))
            after = await bus.state(run)
            assert before is not None
            assert after is not None
            assert (after.tenant, after.labels, after.pipeline) == ("acme", {"user": "ann"}, "ingest")
            assert (after.attempt, after.created_ms) == (before.attempt, before.created_ms)
            reached.set()
            await bus.control.resume(run)
            await task
        state = await bus.state(run)
        assert state is not None
        assert state.status == "completed"


async def acts_in(acts: Path) -> bool:
    return acts.exists()


async def stands(bus: Bus, runs: list[str], *statuses: str) -> bool:
    states = [await bus.state(each) for each in runs]
    return all(state is not None and (state.status in statuses if statuses else state.ended) for state in states)


async def test_attack_05_a_body_that_blocks_its_loop_beyond_the_limit_loses_its_execution(
    server_url: str, prefix: str, run: str
) -> None:
    settings = BusSettings(prefix=prefix, lease_seconds=1.0)
    async with await open_bus(server_url, settings=settings) as bus:
        bus.heartbeat.stall_limit_seconds = 2.5
        told: list[str] = []
        bus.heartbeat.on_unstoppable = told.append
        with pytest.raises(LeaseLostError):  # noqa: PT012 - it is raised on leaving
            async with bus.execution(run):
                time.sleep(4.0)  # noqa: ASYNC251 - a body that does what it must not
                await asyncio.sleep(patient(10))
        assert "blocked the event loop" in told[0]
        assert bus.counters["stall_limits"] >= 1


async def test_a_heartbeat_that_fails_has_its_owners_stop_and_the_next_execution_starts_another(
    server_url: str, prefix: str, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = BusSettings(prefix=prefix, lease_seconds=5.0)
    async with await open_bus(server_url, settings=settings) as bus:

        async def fail() -> None:
            raise RuntimeError("a defect")

        with monkeypatch.context() as patch:
            patch.setattr(bus.heartbeat, "_open_parts", fail)
            with pytest.raises(LeaseLostError, match="could not be renewed"):
                async with bus.execution(run):
                    await asyncio.sleep(patient(10))
        assert bus.counters["heartbeat_errors"] == 1
        async with bus.execution(f"{run}-next") as execution:
            await eventually(lambda: is_held_by_a_session(bus, execution.id))
