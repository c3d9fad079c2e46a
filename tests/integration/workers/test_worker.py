"""A worker as a whole: sharing, bounds, stopping, and Redis going away."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tailrace.bus import Bus, BusSettings, BusUnavailableError, open_bus
from tailrace.bus.log.log import Appended
from tailrace.workers import Context, Outputs, Pipeline, Registry, Step, Worker
from tailrace.workers.worker.attempt import Attempt
from tests.integration.workers.watching import (
    PATIENCE_SECONDS,
    run,
    types_of,
    until,
    until_no_jobs_left,
    until_true,
    watch,
    working,
)
from tests.patience import patient
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio


class Gate:
    """A pipeline whose executions wait until they are let through."""

    def __init__(self, *, max_attempts: int = 3) -> None:
        self.opened = asyncio.Event()
        self.inside = 0
        self.most_inside = 0
        self.registry = Registry([Pipeline("gate", (Step("wait", self.wait),), max_attempts=max_attempts)])

    async def wait(self, ctx: Context, _outputs: Outputs) -> None:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            await ctx.log("inside")
            await self.opened.wait()
        finally:
            self.inside -= 1


async def until_waiting(bus: Bus) -> None:
    """Until a worker waits in Redis for jobs."""

    async def is_waiting() -> bool:
        clients: bytes = await bus.commands.command("CLIENT", "LIST")
        return b"cmd=xreadgroup" in clients

    await until_true(is_waiting)


async def test_two_workers_share_a_queue_and_each_execution_is_done_once(
    bus: Bus, server_url: str, settings: BusSettings
) -> None:
    done: list[tuple[str, str]] = []

    def counting(name: str) -> Registry:
        async def count(ctx: Context, _outputs: Outputs) -> None:
            done.append((name, ctx.execution_id))
            await asyncio.sleep(0.002)

        return Registry([Pipeline("count", (Step("count", count),))])

    async with (
        await open_bus(server_url, settings=settings) as other,
        working(bus, counting("a"), concurrency=4),
        working(other, counting("b"), concurrency=4),
    ):
        ids = [await bus.submit("count", {}) for _ in range(200)]
        for execution_id in ids:
            entries = await watch(bus, execution_id)
            assert types_of(entries).count("execution.started") == 1
            assert entries[-1].type == "execution.completed"
        await until_no_jobs_left(bus)
    assert sorted(execution_id for _, execution_id in done) == sorted(ids)
    assert {name for name, _ in done} == {"a", "b"}


async def test_no_more_executions_run_at_a_time_than_allowed(bus: Bus) -> None:
    gate = Gate()
    async with working(bus, gate.registry, concurrency=3) as worker:
        ids = [await bus.submit("gate", {}) for _ in range(10)]
        await until(lambda: gate.inside == 3)
        assert len(worker.running) == 3
        gate.opened.set()
        for execution_id in ids:
            assert (await watch(bus, execution_id))[-1].type == "execution.completed"
    assert gate.most_inside == 3


async def test_queues_named_first_go_first(bus: Bus) -> None:
    order: list[str] = []

    async def note(ctx: Context, _outputs: Outputs) -> None:
        order.append(ctx.input["queue"])

    registry = Registry([Pipeline("note", (Step("note", note),))])
    ids = [
        await bus.submit("note", {"queue": queue, "n": n}, queue=queue) for n in range(3) for queue in ("low", "high")
    ]
    async with working(bus, registry, queues=("high", "low"), concurrency=1):
        for execution_id in ids:
            await watch(bus, execution_id)
    assert order == ["high"] * 3 + ["low"] * 3


async def test_with_several_queues_jobs_of_each_are_taken(bus: Bus) -> None:
    gate = Gate()
    gate.opened.set()
    async with working(bus, gate.registry, queues=("high", "low")):
        for queue in ("low", "high", "low"):
            assert (await run(bus, "gate", {}, queue=queue))[-1].type == "execution.completed"


async def test_jobs_submitted_before_any_worker_was_there_are_done(bus: Bus) -> None:
    gate = Gate()
    gate.opened.set()
    execution_id = await bus.submit("gate", {})
    async with working(bus, gate.registry):
        assert (await watch(bus, execution_id))[-1].type == "execution.completed"


async def test_a_stop_lets_what_runs_end_well_and_takes_no_more(bus: Bus) -> None:
    gate = Gate()
    async with working(bus, gate.registry, concurrency=1, drain_seconds=60) as worker:
        first = await bus.submit("gate", {})
        await watch(bus, first, until="log")
        second = await bus.submit("gate", {})
        worker.stop()
        gate.opened.set()
        assert (await watch(bus, first))[-1].type == "execution.completed"
        await until(lambda: not worker.running)
    state = await bus.state(second)
    assert state is not None
    assert state.status == "queued"


async def test_what_does_not_end_within_the_drain_and_must_not_be_repeated_is_cancelled(bus: Bus) -> None:
    gate = Gate(max_attempts=1)
    async with working(bus, gate.registry, drain_seconds=0.2) as worker:
        execution_id = await bus.submit("gate", {})
        await watch(bus, execution_id, until="log")
        worker.stop()
        entries = await watch(bus, execution_id)
        await until_no_jobs_left(bus)
    assert entries[-1].type == "execution.cancelled"
    assert entries[-1].data["reason"] == "worker_stopped"
    assert gate.inside == 0


async def test_a_stop_does_not_interrupt_an_ending_that_is_under_way(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    ending, release, asked = asyncio.Event(), asyncio.Event(), asyncio.Event()
    append, stop = bus.log.append, Attempt.stop

    async def slow_append(execution_id: str, events: Sequence[Sequence[bytes]], **options: Any) -> Appended:
        if b"execution.completed" in events[-1]:
            ending.set()
            await release.wait()
        return await append(execution_id, events, **options)

    def noted_stop(attempt: Attempt) -> asyncio.Task[None]:
        asked.set()
        return stop(attempt)

    monkeypatch.setattr(bus.log, "append", slow_append)
    monkeypatch.setattr(Attempt, "stop", noted_stop)
    gate = Gate()
    gate.opened.set()
    async with working(bus, gate.registry, drain_seconds=0) as worker:
        execution_id = await bus.submit("gate", {})
        await ending.wait()
        worker.stop()
        await asked.wait()
        # Several turns of the loop: a cancellation would have arrived by then.
        for _ in range(10):
            await asyncio.sleep(0)
        release.set()
        assert (await watch(bus, execution_id))[-1].type == "execution.completed"
        await until_no_jobs_left(bus)


async def test_a_job_that_comes_while_a_worker_stops_is_left_to_another(
    bus: Bus, server_url: str, settings: BusSettings
) -> None:
    stopping, staying = Gate(), Gate()
    staying.opened.set()
    async with await open_bus(server_url, settings=settings) as other:
        async with working(bus, stopping.registry) as worker:
            await until_waiting(bus)
            worker.stop()
            execution_id = await bus.submit("gate", {})
        assert stopping.most_inside == 0
        async with working(other, staying.registry):
            assert (await watch(bus, execution_id))[-1].type == "execution.completed"
    assert staying.most_inside == 1


async def test_what_does_not_end_within_the_drain_is_left_to_another_worker_and_costs_no_attempt(
    bus: Bus, server_url: str, settings: BusSettings
) -> None:
    stopping, staying = Gate(), Gate()
    staying.opened.set()
    async with await open_bus(server_url, settings=settings) as other:
        async with working(bus, stopping.registry, drain_seconds=0.2) as worker:
            execution_id = await bus.submit("gate", {})
            await watch(bus, execution_id, until="log")
            worker.stop()
            handed_back = (await watch(bus, execution_id, until="execution.retrying"))[-1]
        assert await bus.jobs.has_job(execution_id)
        async with working(other, staying.registry):
            entries = await watch(bus, execution_id)
            await until_no_jobs_left(bus)
    assert handed_back.data["reason"] == "worker_stopped"
    assert handed_back.data["attempt"] == 1
    assert entries[-1].type == "execution.completed"
    assert [entry.data["attempt"] for entry in entries if entry.type == "execution.started"] == [1, 1]


async def test_a_run_that_is_paused_stays_paused_when_its_worker_stops(
    bus: Bus, server_url: str, settings: BusSettings
) -> None:
    stopping, staying = Gate(), Gate()
    staying.opened.set()
    async with await open_bus(server_url, settings=settings) as other:
        async with working(bus, stopping.registry, drain_seconds=0.2) as worker:
            execution_id = await bus.submit("gate", {})
            await watch(bus, execution_id, until="log")
            asked = await bus.control.pause(execution_id)
            worker.stop()
        async with working(other, staying.registry):
            # Its body said nothing after the request, so it is whoever comes next that stands still.
            assert (await bus.control.wait(asked, 30)).status == "paused"
            assert staying.most_inside == 0
            await bus.control.resume(execution_id)
            entries = await watch(bus, execution_id)
    assert entries[-1].type == "execution.completed"
    assert staying.most_inside == 1


async def test_a_second_stop_does_not_wait_for_the_drain(bus: Bus) -> None:
    gate = Gate(max_attempts=1)
    async with working(bus, gate.registry, drain_seconds=3600) as worker:
        execution_id = await bus.submit("gate", {})
        await watch(bus, execution_id, until="log")
        worker.stop()
        worker.stop()
        assert (await watch(bus, execution_id))[-1].type == "execution.cancelled"


async def test_a_worker_whose_own_task_is_cancelled_ends_its_executions_first(bus: Bus) -> None:
    gate = Gate(max_attempts=1)
    task = asyncio.create_task(Worker(bus, gate.registry).run())
    execution_id = await bus.submit("gate", {})
    await watch(bus, execution_id, until="log")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await watch(bus, execution_id))[-1].data["reason"] == "worker_stopped"


async def test_a_step_that_cancels_something_of_its_own_does_not_end_the_worker(bus: Bus) -> None:
    async def careless(_ctx: Context, _outputs: Outputs) -> None:
        own = asyncio.ensure_future(asyncio.Event().wait())
        own.cancel()
        await own

    gate = Gate()
    gate.opened.set()
    registry = Registry([Pipeline("careless", (Step("careless", careless),)), gate.registry.get("gate")])
    async with working(bus, registry):
        ending = (await run(bus, "careless", {}))[-1]
        assert (ending.type, ending.data["reason"]) == ("execution.failed", "step_cancelled")
        assert (await run(bus, "gate", {}))[-1].type == "execution.completed"
        await until_no_jobs_left(bus)
    assert bus.counters["jobs_claimed"] == 0


async def test_a_result_that_json_cannot_carry_still_gives_the_execution_its_ending(bus: Bus) -> None:
    async def odd(_ctx: Context, _outputs: Outputs) -> bytes:
        return b"\xff"

    async with working(bus, Registry([Pipeline("odd", (Step("odd", odd),))])):
        entries = await run(bus, "odd", {})
    assert entries[-1].type == "execution.completed"
    assert entries[-1].data["result"]["output_of"] == "odd"


async def test_the_event_loop_stays_free_while_a_plain_step_blocks(bus: Bus) -> None:
    released = threading.Event()

    def block(_ctx: Context, _outputs: Outputs) -> None:
        assert released.wait(PATIENCE_SECONDS)

    gate = Gate()
    gate.opened.set()
    registry = Registry([Pipeline("block", (Step("block", block),)), gate.registry.get("gate")])
    async with working(bus, registry):
        blocked = await bus.submit("block", {})
        assert (await run(bus, "gate", {}))[-1].type == "execution.completed"
        released.set()
        assert (await watch(bus, blocked))[-1].type == "execution.completed"


async def test_a_worker_outlives_a_restart_of_redis_and_goes_on(
    fresh_server: RunningServer, settings: BusSettings, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    gate.opened.set()
    async with await open_bus(fresh_server.url, settings=settings) as bus, working(bus, gate.registry):
        await run(bus, "gate", {})
        await asyncio.to_thread(fresh_server.terminate)
        await until(lambda: bus.counters["worker_outages"] > 0)
        await asyncio.to_thread(fresh_server.start)
        async with asyncio.timeout(patient(PATIENCE_SECONDS)):
            while True:
                try:
                    execution_id = await bus.submit("gate", {}, execution_id="after")
                    break
                except BusUnavailableError:
                    continue
        assert (await watch(bus, execution_id))[-1].type == "execution.completed"
    told = [record for record in caplog.records if "cannot take jobs" in record.getMessage()]
    assert len(told) == 1


async def test_a_worker_takes_up_its_queue_again_after_all_was_flushed(
    fresh_server: RunningServer, settings: BusSettings
) -> None:
    gate = Gate()
    gate.opened.set()
    async with await open_bus(fresh_server.url, settings=settings) as bus, working(bus, gate.registry):
        await run(bus, "gate", {})
        await bus.commands.command("FLUSHALL")
        assert (await run(bus, "gate", {}))[-1].type == "execution.completed"


PROCESS = """
import asyncio, signal, sys
from tailrace.bus import BusSettings, open_bus
from tailrace.workers import Worker, WorkerSettings, built_in

async def main():
    async with await open_bus(sys.argv[1], settings=BusSettings(prefix=sys.argv[2])) as bus:
        worker = Worker(bus, built_in(allow_command=True), WorkerSettings(drain_seconds=0))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, worker.stop)
        await worker.run()

asyncio.run(main())
"""


async def test_a_worker_process_that_is_asked_to_end_ends_its_executions_and_exits_well(
    bus: Bus, server_url: str, prefix: str
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        PROCESS,
        server_url,
        prefix,
        env=environment,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        execution_id = await bus.submit("command", {"argv": ["sh", "-c", "echo up; sleep 600"]})
        await watch(bus, execution_id, until="log")
        process.send_signal(signal.SIGTERM)
        entries = await watch(bus, execution_id)
        async with asyncio.timeout(patient(PATIENCE_SECONDS)):
            _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert entries[-1].data["reason"] == "worker_stopped"
    assert (process.returncode, errors) == (0, b"")
