"""What strangers write into a control stream, and what outages do to it, stops nobody and loses no request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tailrace.bus import Bus, BusSettings, ConnectionLostError, Execution, open_bus
from tailrace.bus.ownership.control_stream import ControlStream
from tests.integration.bus.follower import Follower
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

WAIT = 15.0


@pytest.fixture
async def brisk_bus(each_server_url: str, prefix: str) -> AsyncIterator[Bus]:
    settings = BusSettings(prefix=prefix, lease_seconds=0.5)
    async with await open_bus(each_server_url, settings=settings) as opened:
        yield opened


@asynccontextmanager
async def running(bus: Bus) -> AsyncGenerator[Execution, None]:
    """Says something every 10 ms, and never ends by itself."""
    entered = asyncio.Event()
    execution = bus.execution("run")

    async def run() -> None:
        with suppress(asyncio.CancelledError):
            async with execution:
                entered.set()
                while True:
                    await execution.append("a")
                    await asyncio.sleep(0.01)

    task = asyncio.create_task(run())
    await entered.wait()
    try:
        yield execution
    finally:
        task.cancel()
        await asyncio.wait([task])


HOSTILE: list[list[bytes]] = [
    [b"anything", b"at all"],
    [b"t", b"execution.cancel_requested", b"d", b"{}"],
    [b"r", b"no-id", b"t", b"execution.cancel_requested", b"d", b"{}"],
    [b"r", b"1-1", b"t", b"execution.cancelled", b"d", b"{}"],
    [b"r", b"1-2", b"t", b"execution.cancel_requested", b"d", b"{broken"],
    [b"r", b"1-3", b"t", b"execution.cancel_requested", b"d", b'"' + b"x" * 1_000_000 + b'"'],
    [b"r", b"1-4", b"t", b"\xff\xfe", b"d", b"\x00"],
    [b"r", b"1-5", b"t", b"execution.signal_requested\r\n", b"d", b"{}"],
]


async def test_entries_of_strangers_are_dropped_counted_and_logged_once(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    key = bus.keys.control("run")
    with caplog.at_level(logging.WARNING, logger="tailrace.bus.ownership.control_stream"):
        await bus.commands.command("XADD", key, "*", *HOSTILE[0])
        async with running(bus) as execution:
            for fields in HOSTILE[1:]:
                await bus.commands.command("XADD", key, "*", *fields)
            outcome = await bus.control.signal("run", "go", wait_seconds=WAIT)
            assert outcome.event is not None
            assert execution.cancel_request is None
            assert (await bus.control.cancel("run", wait_seconds=WAIT)).status == "cancelled"
    assert bus.counters["control_dropped"] == len(HOSTILE)
    assert len([record for record in caplog.records if record.name == "tailrace.bus.ownership.control_stream"]) == 1


async def test_a_request_that_is_copied_by_a_stranger_is_obeyed_once(bus: Bus) -> None:
    async with running(bus):
        outcome = await bus.control.signal("run", "go", wait_seconds=WAIT)
        ((_, fields),) = await bus.commands.command("XRANGE", bus.keys.control("run"), "-", "+")
        await bus.commands.command("XADD", bus.keys.control("run"), "*", *fields)
        second = await bus.control.signal("run", "go", wait_seconds=WAIT)
        await bus.control.cancel("run", wait_seconds=WAIT)
    async with Follower(bus, "run") as follower:
        await follower.end()
    answered = [entry.data["request"] for entry in follower.entries if entry.type == "execution.signalled"]
    assert answered == [outcome.request, second.request]


async def test_a_control_stream_that_was_deleted_begins_anew(bus: Bus) -> None:
    async with running(bus):
        for _ in range(3):
            await bus.control.pause("run", wait_seconds=WAIT)
            await bus.commands.command("DEL", bus.keys.control("run"))
            await bus.control.resume("run", wait_seconds=WAIT)
        await bus.control.cancel("run", wait_seconds=WAIT)


async def test_where_something_else_stands_in_its_place_nothing_can_be_asked_until_it_is_gone(bus: Bus) -> None:
    async with running(bus):
        await bus.commands.command("SET", bus.keys.control("run"), "mine")
        with pytest.raises(Exception, match="WRONGTYPE"):
            await bus.control.pause("run")
        state = await bus.state("run")
        assert state is not None
        assert state.status == "running"
        await bus.commands.command("DEL", bus.keys.control("run"))
        assert (await bus.control.cancel("run", wait_seconds=WAIT)).status == "cancelled"


async def test_a_cancellation_whose_request_never_arrives_is_obeyed_by_its_status(
    brisk_bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The renewal of the lease tells it."""
    async with running(brisk_bus):
        monkeypatch.setattr(ControlStream, "_read", lambda *_: None)
        outcome = await brisk_bus.control.cancel("run", reason="unheard", wait_seconds=WAIT)
    assert outcome.event is not None
    assert (outcome.event.type, outcome.event.data) == ("execution.cancelled", {"reason": "cancelled"})


@pytest.mark.parametrize("op", ["pause", "cancel"])
async def test_a_request_whose_reply_was_lost_is_made_once(bus: Bus, monkeypatch: pytest.MonkeyPatch, op: str) -> None:
    append = bus.log.append
    lost = 0

    async def losing(execution_id: str, events: list[list[bytes]], **options: object) -> object:
        nonlocal lost
        appended = await append(execution_id, events, **options)  # type: ignore[arg-type]
        if str(options.get("producer")).startswith("control.") and lost < 2:
            lost += 1
            raise ConnectionLostError("the reply was lost")
        return appended

    async with running(bus):
        monkeypatch.setattr(bus.log, "append", losing)
        outcome = await getattr(bus.control, op)("run", wait_seconds=WAIT)
        assert lost == 2
        assert outcome.event is not None
        raw = await bus.commands.command("XRANGE", bus.keys.control("run"), "-", "+")
        assert [dict(zip(fields[::2], fields[1::2], strict=True))[b"r"].decode() for _, fields in raw] == [
            outcome.request
        ]


async def test_many_requests_of_one_process_are_those_of_one_producer(bus: Bus) -> None:
    """The producers of an execution are bounded: a thousand signals must not use them up."""
    async with running(bus):
        await asyncio.gather(*(bus.control.signal("run", "go", number) for number in range(50)))
        fields = await bus.commands.command("HKEYS", bus.keys.meta("run"))
        assert len([field for field in fields if field.startswith(b"p:control.")]) == 1
        await bus.control.cancel("run", wait_seconds=WAIT)


async def test_a_refused_pause_does_not_cost_the_body_its_voice(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancellation overtakes a pause on its way into the log: the refusal is the steering's, not the body's."""
    requested = asyncio.Event()
    append = bus.log.append

    async def overtaken(execution_id: str, events: list[list[bytes]], **options: object) -> object:
        if events[0][1] == b"execution.paused" and not requested.is_set():
            requested.set()
            await bus.control.cancel("run", reason="at once")
        return await append(execution_id, events, **options)  # type: ignore[arg-type]

    async with running(bus):
        monkeypatch.setattr(bus.log, "append", overtaken)
        pause = await bus.control.pause("run")
        outcome = await bus.control.wait(pause, WAIT)
    assert requested.is_set()
    assert outcome.event is not None
    assert (outcome.event.type, outcome.event.data["reason"]) == ("execution.cancelled", "at once")


@pytest.mark.parametrize("tail", ["tracking", "blocking"])
async def test_requests_survive_a_restart_of_redis(fresh_server: RunningServer, prefix: str, tail: str) -> None:
    """With AOF: what was asked before stands, and what is asked afterwards arrives."""
    settings = BusSettings(prefix=prefix, tail=tail)
    async with await open_bus(fresh_server.url, settings=settings) as bus:
        async with running(bus):
            assert (await bus.control.pause("run", wait_seconds=WAIT)).status == "paused"
            await asyncio.to_thread(fresh_server.restart)
            assert (await bus.control.resume("run", wait_seconds=WAIT)).status == "running"
            assert (await bus.control.cancel("run", wait_seconds=WAIT)).status == "cancelled"
        async with Follower(bus, "run") as follower:
            types = await follower.end()
    kinds = [each.removeprefix("execution.") for each in types if each != "a"]
    assert kinds == [
        "started", "pause_requested", "paused", "resume_requested", "resumed", "cancel_requested", "cancelled",
    ]  # fmt: skip


async def test_what_waits_and_is_taken_at_that_moment_is_cancelled_either_way(bus: Bus) -> None:
    """Twenty times a worker and a cancellation meet: it never runs on, and ends once."""
    for number in range(20):
        run = f"run{number}"
        await bus.submit("nothing", execution_id=run)

        async def work(run: str = run) -> None:
            async with bus.execution(run):
                await asyncio.Event().wait()

        working = asyncio.create_task(work())
        if number % 4:
            await asyncio.sleep(0.0005 * (number % 7))
        outcome = await bus.control.cancel(run, wait_seconds=WAIT)
        assert outcome.status == "cancelled"
        await asyncio.wait([working], timeout=WAIT)
        assert working.done()
        with suppress(asyncio.CancelledError):
            working.exception()
        async with Follower(bus, run) as follower:
            types = await follower.end()
        assert types.count("execution.cancelled") == 1
        assert types[-1] == "execution.cancelled"
        with pytest.raises(Exception, match="has ended"):
            await bus.control.cancel(run)
