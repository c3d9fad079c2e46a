"""The publisher against a log whose replies get lost: each event is in it once, in order, or somebody is told."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tailrace.bus.errors import (
    BusClosedError,
    BusUnavailableError,
    ConnectionLostError,
    ExecutionClosedError,
    FenceStaleError,
    InvalidEventError,
    PublishFailedError,
    ReplyError,
)
from tailrace.bus.log.log import Log
from tailrace.bus.log.publisher import Publisher
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.event import Event
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.retention import Retention
from tests.contract.fake_commands import FakeCommands
from tests.patience import patient, stretched

pytestmark = pytest.mark.anyio

Outcome = Literal["done", "lost before", "lost after", "loading"]


class FlakyCommands:
    """fakeredis behind a bad line: each append has the next outcome, and is done when they have run out."""

    def __init__(self, outcomes: Iterable[Outcome] = ()) -> None:
        self.fake = FakeCommands()
        self.outcomes = iter(outcomes)
        self.open = asyncio.Event()
        self.open.set()
        self.batches: list[int] = []
        self.under_way = 0

    async def command(self, *command: bytes | str | float) -> Any:
        if command[0] not in ("EVALSHA", "EVAL"):
            return await self.fake.command(*command)
        self.under_way += 1
        assert self.under_way == 1, "more than one append under way"
        try:
            await self.open.wait()
            outcome = next(self.outcomes, "done")
            if outcome == "lost before":
                raise ConnectionLostError("lost before")
            if outcome == "loading":
                raise ReplyError("LOADING Redis is loading the dataset in memory")
            reply = await self.fake.command(*command)
            self.batches.append(int(command[3 + 4 + 8]))
            if outcome == "lost after":
                raise ConnectionLostError("lost after")
            return reply
        finally:
            self.under_way -= 1

    async def aclose(self) -> None:
        await self.fake.aclose()


def log_of(commands: FlakyCommands) -> Log:
    return Log(commands, Keys(), counters=Counters(), retention=Retention())


async def stored(commands: FlakyCommands) -> list[tuple[str, bytes | None]]:
    raw = await commands.fake.command("XRANGE", Keys().log("run"), "-", "+")
    entries = [dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in raw]
    return [(fields[b"t"].decode(), fields.get(b"d")) for fields in entries]


@pytest.fixture
async def commands() -> AsyncIterator[FlakyCommands]:
    flaky = FlakyCommands()
    yield flaky
    flaky.open.set()
    await flaky.aclose()


@pytest.fixture
async def publisher(commands: FlakyCommands) -> AsyncIterator[Publisher]:
    publisher = Publisher(log_of(commands), "run", producer="p", max_buffered_events=10)
    yield publisher
    await publisher.abandon()


@given(
    outcomes=st.lists(st.sampled_from(["done", "lost before", "lost after", "loading"]), max_size=5),
    bursts=st.lists(st.integers(1, 8), min_size=1, max_size=5),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
async def test_case_11_each_event_is_in_the_log_once_and_in_order_whatever_replies_get_lost(
    outcomes: list[Outcome], bursts: list[int]
) -> None:
    commands = FlakyCommands(outcomes)
    publisher = Publisher(log_of(commands), "run", producer="p")
    emitted = 0
    for burst in bursts:
        for _ in range(burst):
            await publisher.emit("a", emitted)
            emitted += 1
        await asyncio.sleep(0.001)
    await publisher.aclose()
    assert await stored(commands) == [("a", b"%d" % number) for number in range(emitted)]
    await commands.aclose()


async def test_what_arrives_while_an_append_is_under_way_goes_into_the_next(
    commands: FlakyCommands, publisher: Publisher
) -> None:
    await publisher.append("a", 0)
    commands.open.clear()
    await publisher.emit("a", 1)
    await asyncio.sleep(0.01)
    for number in range(2, 8):
        await publisher.emit("a", number)
    commands.open.set()
    await publisher.flush()
    assert commands.batches == [1, 1, 6]


async def test_a_full_buffer_slows_its_pipeline_and_loses_nothing(
    commands: FlakyCommands, publisher: Publisher
) -> None:
    commands.open.clear()

    async def emit_all() -> None:
        for number in range(30):
            await publisher.emit("a", number)

    pipeline = asyncio.create_task(emit_all())
    await asyncio.sleep(0.05)
    assert publisher._outbox.held_events == 10
    assert not pipeline.done()
    commands.open.set()
    await pipeline
    await publisher.flush()
    assert await stored(commands) == [("a", b"%d" % number) for number in range(30)]
    assert publisher._log.counters["publish_waits"] > 0


async def test_the_buffer_is_bounded_in_bytes_too(commands: FlakyCommands) -> None:
    publisher = Publisher(log_of(commands), "run", producer="p", max_buffered_bytes=1000)
    commands.open.clear()
    taken = 0
    while publisher.offer(Event("a", "x" * 300)):
        taken += 1
    assert taken == 3
    commands.open.set()
    await publisher.aclose()


async def test_tokens_that_come_one_by_one_share_an_entry(commands: FlakyCommands, publisher: Publisher) -> None:
    for text in ("Hel", "lo", " wor", "ld"):
        await publisher.emit("token", {"text": text}, step="write")
    await publisher.flush()
    assert await stored(commands) == [("token", b'{"text":"Hello world"}')]


async def test_an_event_after_a_token_does_not_wait_for_more_tokens(commands: FlakyCommands) -> None:
    publisher = Publisher(log_of(commands), "run", producer="p", token_linger_seconds=60)
    await publisher.emit("token", {"text": "a"})
    await publisher.emit("log", "b")
    async with asyncio.timeout(patient(5)):
        await publisher.flush()
    assert [event for event, _ in await stored(commands)] == ["token", "log"]
    await publisher.aclose()


async def test_an_error_that_a_retry_would_repeat_is_told_at_once_with_its_reason(
    commands: FlakyCommands, publisher: Publisher
) -> None:
    await commands.fake.command("SET", Keys().log("run"), "a string")
    await publisher.emit("a", 1)
    await publisher.emit("a", 2)
    with pytest.raises(PublishFailedError, match="WRONGTYPE") as caught:
        await publisher.flush()
    assert caught.value.lost_events == 2
    with pytest.raises(PublishFailedError, match="WRONGTYPE"):
        await publisher.emit("a", 3)
    assert publisher._log.counters["publish_lost_events"] == 2


async def test_giving_up_takes_as_long_as_it_says_and_names_the_last_reason(commands: FlakyCommands) -> None:
    commands.outcomes = itertools.repeat("lost before")
    publisher = Publisher(log_of(commands), "run", producer="p", give_up_after_seconds=0.3)
    started = time.monotonic()
    with pytest.raises(PublishFailedError, match="lost before"):
        await publisher.append("a")
    assert 0.3 <= time.monotonic() - started < stretched(2)
    await publisher.abandon()


async def test_a_bug_beneath_the_publisher_is_told_and_nobody_waits_for_ever(
    commands: FlakyCommands, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(publisher._log, "append", broken)
    await publisher.emit("a")
    async with asyncio.timeout(patient(5)):
        with pytest.raises(ZeroDivisionError):
            await publisher.flush()


async def test_who_waits_for_room_or_for_the_log_is_told_when_the_publisher_is_abandoned(
    commands: FlakyCommands, publisher: Publisher
) -> None:
    commands.open.clear()
    for number in range(10):
        await publisher.emit("a", number)
    waiting = [asyncio.create_task(publisher.emit("a", 10)), asyncio.create_task(publisher.flush())]
    await asyncio.sleep(0.01)
    await publisher.abandon()
    async with asyncio.timeout(patient(5)):
        for task in waiting:
            with pytest.raises(PublishFailedError, match="abandoned"):
                await task
    assert publisher._log.counters["publish_lost_events"] == 10


async def test_a_closed_publisher_has_appended_everything_and_takes_nothing_more(
    commands: FlakyCommands, publisher: Publisher
) -> None:
    for number in range(5):
        await publisher.emit("a", number)
    await publisher.aclose()
    assert len(await stored(commands)) == 5
    with pytest.raises(BusClosedError):
        await publisher.emit("a")
    await publisher.aclose()


async def test_after_a_terminal_event_nothing_is_taken(commands: FlakyCommands, publisher: Publisher) -> None:
    await publisher.emit("a")
    await publisher.emit("execution.completed")
    with pytest.raises(ExecutionClosedError):
        await publisher.emit("late")
    await publisher.flush()
    assert [event for event, _ in await stored(commands)] == ["a", "execution.completed"]


async def test_a_log_that_somebody_else_closed_refuses_and_says_by_which_entry(
    commands: FlakyCommands, publisher: Publisher
) -> None:
    await publisher.append("a")
    await log_of(commands).append("run", [[b"t", b"execution.failed"]])
    with pytest.raises(ExecutionClosedError, match=r"terminal entry \d+-2"):
        await publisher.append("b")


async def test_a_publisher_whose_fence_is_stale_appends_nothing(commands: FlakyCommands) -> None:
    await commands.fake.command("HSET", Keys().meta("run"), "fence", 5)
    publisher = Publisher(log_of(commands), "run", producer="p", fence=4)
    with pytest.raises(FenceStaleError, match="execution run has another owner") as caught:
        await publisher.append("a")
    assert "5" not in str(caught.value)
    assert await stored(commands) == []
    await publisher.abandon()


async def test_a_second_publisher_of_the_same_name_is_told_that_its_events_were_dropped(
    commands: FlakyCommands, publisher: Publisher
) -> None:
    """Its numbers begin anew, so that the log takes its events for repetitions."""
    for number in range(3):
        await publisher.append("a", number)
    second = Publisher(log_of(commands), "run", producer="p")
    with pytest.raises(PublishFailedError, match="another producer named 'p'"):
        await second.append("b")
    await second.abandon()


async def test_an_event_that_can_never_be_appended_is_refused_alone(
    commands: FlakyCommands, publisher: Publisher
) -> None:
    await publisher.emit("a", 1)
    for bad in (("Bad", 1), ("a", object()), ("stream.end", None), ("token", {"text": "\ud800"})):
        with pytest.raises(InvalidEventError):
            await publisher.emit(*bad)
    await publisher.emit("a", 2)
    await publisher.flush()
    assert await stored(commands) == [("a", b"1"), ("a", b"2")]


async def test_append_returns_the_cursor_under_which_the_event_can_be_found(
    commands: FlakyCommands, publisher: Publisher
) -> None:
    cursors = [await publisher.append("a", number) for number in range(3)]
    raw = await commands.fake.command("XRANGE", Keys().log("run"), "-", "+")
    assert [cursor.encode() for cursor in cursors] == [entry_id for entry_id, _ in raw]


async def test_a_cancelled_emit_leaves_the_publisher_whole(commands: FlakyCommands, publisher: Publisher) -> None:
    commands.open.clear()
    for number in range(10):
        await publisher.emit("a", number)
    waiting = asyncio.create_task(publisher.emit("never taken"))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    commands.open.set()
    await publisher.emit("b")
    await publisher.flush()
    assert [event for event, _ in await stored(commands)] == ["a"] * 10 + ["b"]


async def test_a_bus_that_was_closed_is_told_as_such(commands: FlakyCommands, monkeypatch: pytest.MonkeyPatch) -> None:
    async def closed(*_: object) -> None:
        raise BusClosedError("the bus is closed")

    monkeypatch.setattr(commands, "command", closed)
    publisher = Publisher(log_of(commands), "run", producer="p")
    with pytest.raises(BusClosedError):
        await publisher.append("a")
    await publisher.abandon()


@pytest.mark.parametrize("code", ["LOADING", "READONLY", "OOM", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"])
async def test_a_server_that_is_not_ready_is_waited_for(commands: FlakyCommands, code: str) -> None:
    log = log_of(commands)
    answers = iter([ReplyError(f"{code} not now"), BusUnavailableError("not connected")])
    append = log.append

    async def not_ready(*args: Any, **options: Any) -> Any:
        for answer in answers:
            raise answer
        return await append(*args, **options)

    log.append = not_ready  # type: ignore[method-assign]
    publisher = Publisher(log, "run", producer="p")
    await publisher.append("a")
    assert log.counters["append_retries"] == 2
    await publisher.aclose()
