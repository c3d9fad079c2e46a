"""The activity: what happens to all executions, told once each, in order, and to whoever comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest

from tailrace.bus import Bus, Cursor, Event, Gap, InvalidInputError, State, open_bus
from tailrace.bus.activity import Change
from tailrace.bus.activity.activity import MAX_WAITING, Activity
from tailrace.bus.model.codec import encode
from tailrace.bus.settings import BusSettings
from tests.patience import patient
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

TS = "2026-01-02T03:04:05.000000Z"


async def changes(
    bus: Bus, until: Callable[[Change], bool], after: Cursor | str = "0", *, seconds: float = 10.0
) -> list[Change | Gap]:
    """From a cursor to the first change that fulfils the condition."""
    seen: list[Change | Gap] = []
    async with asyncio.timeout(patient(seconds)), aclosing(bus.activity.follow(after)) as items:
        async for item in items:
            seen.append(item)
            if isinstance(item, Change) and until(item):
                break
    return seen


def ended(execution_id: str) -> Callable[[Change], bool]:
    return lambda change: change.execution_id == execution_id and change.type == "execution.completed"


def only_changes(items: list[Change | Gap]) -> list[Change]:
    assert not [item for item in items if isinstance(item, Gap)]
    return [item for item in items if isinstance(item, Change)]


async def test_an_execution_is_seen_from_its_submission_to_its_end(tailing_bus: Bus) -> None:
    bus = tailing_bus
    await bus.submit("ingest", {"n": 1}, execution_id="run", tenant="acme")
    async with bus.execution("run") as execution:
        await execution.emit("custom.thing")
        execution.result = 5
    seen = only_changes(await changes(bus, ended("run")))
    assert [change.type for change in seen] == ["execution.queued", "execution.started", "execution.completed"]
    assert {(change.tenant, change.pipeline) for change in seen} == {("acme", "ingest")}
    assert seen[-1].data == {"result": 5}


async def test_only_what_is_wanted_of_the_activity_is_given(bus: Bus) -> None:
    for number, (tenant, pipeline) in enumerate([("acme", "ingest"), ("acme", "other"), ("umbrella", "ingest")]):
        await bus.submit(pipeline, execution_id=f"run-{number}", tenant=tenant)
        async with bus.execution(f"run-{number}"):
            pass
    async with bus.execution("last"):
        pass
    await bus.activity.flush()
    wanted = bus.activity("0", types=["execution.completed"], pipeline="ingest", tenant="acme")
    async with aclosing(wanted) as items, asyncio.timeout(patient(10)):
        change = await anext(items)
    assert isinstance(change, Change)
    assert (change.execution_id, change.type) == ("run-0", "execution.completed")


@pytest.mark.parametrize(
    ("given", "field"), [({"types": "x"}, "types"), ({"pipeline": ""}, "pipeline"), ({"tenant": "a/b"}, "tenant")]
)
async def test_what_cannot_be_wanted_of_the_activity_is_refused(bus: Bus, given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        await anext(bus.activity.follow(**given))
    assert refused.value.field == field


async def test_each_change_names_its_event_in_the_executions_own_log(bus: Bus) -> None:
    async with bus.execution("run"):
        pass
    seen = only_changes(await changes(bus, ended("run")))
    entries = [entry async for entry in bus.follow("run")]
    assert [(change.at, change.type, change.ts) for change in seen] == [
        (entry.cursor, entry.type, entry.ts) for entry in entries if not isinstance(entry, Gap)
    ]


async def test_a_batch_notes_its_life_cycle_events_with_their_own_places(bus: Bus) -> None:
    batch = [
        encode(Event(kind), ts=TS) for kind in ("custom.a", "execution.started", "custom.b", "execution.completed")
    ]
    done = await bus.log.append("run", batch, producer="p", seq=1)
    seen = only_changes(await changes(bus, ended("run")))
    assert [change.at for change in seen] == [Cursor(done.ms, 2), Cursor(done.ms, 4)]


async def test_an_append_sent_again_because_its_reply_was_lost_is_noted_all_the_same(bus: Bus) -> None:
    batch = [encode(Event("execution.completed"), ts=TS)]
    bus.log.on_lifecycle = None
    first = await bus.log.append("run", batch, producer="p", seq=1)
    bus.log.on_lifecycle = bus.activity.appended
    await bus.log.append("run", batch, producer="p", seq=1)
    [seen] = only_changes(await changes(bus, ended("run")))
    assert seen.at == first.last


async def test_who_comes_back_with_a_cursor_misses_and_repeats_nothing(bus: Bus) -> None:
    for run in ("one", "two", "three"):
        async with bus.execution(run):
            pass
    whole = only_changes(await changes(bus, ended("three")))
    for index, change in enumerate(whole[:-1]):
        assert await changes(bus, ended("three"), after=change.cursor) == whole[index + 1 :]


async def test_who_reads_from_now_on_sees_what_happens_after(bus: Bus) -> None:
    async with bus.execution("before"):
        pass
    await bus.activity.flush()
    async with aclosing(bus.activity.follow()) as items, asyncio.timeout(patient(10)):
        first = asyncio.ensure_future(anext(items))
        # The head is taken with the first step; a moment later the watch stands.
        while not first.done():
            bus.activity.note("after", None, "custom.progress", TS, pipeline="p")
            await asyncio.wait([first], timeout=0.05)
        change = first.result()
    assert isinstance(change, Change)
    assert change.execution_id == "after"


async def test_a_trimmed_past_is_a_gap(each_server_url: str, prefix: str) -> None:
    async with await open_bus(each_server_url, settings=BusSettings(prefix=prefix)) as bus:
        small = Activity(bus.commands, bus.keys, counters=bus.counters, tail=bus.tail, max_entries=10)
        for number in range(1000):
            small.note(f"run-{number}", None, "custom.progress", TS, pipeline="p")
        await small.flush()
        first, second, *_ = await changes(bus, lambda change: change.execution_id == "run-999")
        assert isinstance(first, Gap)
        assert first.reason == "trimmed"
        assert isinstance(second, Change)
        assert second.cursor == first.earliest


async def test_a_program_may_note_what_stands_in_no_log(bus: Bus) -> None:
    bus.activity.note("run", None, "custom.progress", TS, tenant="acme", data={"agent": "ingest", "progress": 0.5})
    [change] = only_changes(await changes(bus, lambda _: True))
    assert change.at is None
    assert change.data == {"agent": "ingest", "progress": 0.5}


async def test_who_must_know_that_it_is_written_may_wait_for_it(bus: Bus) -> None:
    state = State("run", "completed", pipeline="ingest", tenant="acme")
    await bus.activity.tell(state, Cursor(5, 3), Event("execution.completed", {"result": 5}, ts=TS))
    assert await bus.commands.command("XLEN", bus.keys.activity()) == 1
    [change] = only_changes(await changes(bus, ended("run")))
    assert (change.at, change.tenant, change.pipeline, change.data) == (Cursor(5, 3), "acme", "ingest", {"result": 5})


async def test_what_is_no_change_is_passed_over_and_counted(bus: Bus) -> None:
    await bus.commands.command("XADD", bus.keys.activity(), "*", "t", "activity", "d", '{"x":1}')
    await bus.commands.command("XADD", bus.keys.activity(), "*", "anything", "at all")
    bus.activity.note("run", None, "custom.progress", TS, pipeline="p")
    seen = await changes(bus, lambda _: True)
    assert isinstance(seen[-1], Change)
    assert bus.counters["activity_unusable"] == 2


async def test_what_was_noted_is_written_before_the_bus_closes(each_server_url: str, prefix: str) -> None:
    settings = BusSettings(prefix=prefix)
    async with await open_bus(each_server_url, settings=settings) as bus:
        for number in range(300):
            bus.activity.note(f"run-{number}", None, "custom.progress", TS, pipeline="p")
    async with await open_bus(each_server_url, settings=settings) as bus:
        seen = only_changes(await changes(bus, lambda change: change.execution_id == "run-299"))
        assert len(seen) == 300


async def test_what_waits_is_bounded_and_losses_are_counted(bus: Bus) -> None:
    # Nothing is written before the loop turns.
    for _ in range(MAX_WAITING + 5):
        bus.activity.note("run", None, "custom.progress", TS, pipeline="p")
    assert bus.counters["activity_lost"] == 5
    await bus.activity.flush()
    assert bus.counters["activity_lost"] == 5


async def test_a_key_that_is_no_stream_costs_the_activity_and_no_execution(bus: Bus) -> None:
    await bus.commands.command("SET", bus.keys.activity(), "something else")
    async with bus.execution("run"):
        pass
    await bus.activity.flush()
    assert bus.counters["activity_lost"] == 2
    state = await bus.state("run")
    assert state is not None
    assert state.status == "completed"


@pytest.fixture
async def fresh_bus(fresh_server: RunningServer) -> AsyncIterator[Bus]:
    async with await open_bus(fresh_server.url) as opened:
        yield opened


async def test_what_happens_while_redis_is_away_is_written_when_it_is_back(
    fresh_server: RunningServer, fresh_bus: Bus
) -> None:
    fresh_bus.activity.note("before", None, "custom.progress", TS, pipeline="p")
    await fresh_bus.activity.flush()
    await asyncio.to_thread(fresh_server.terminate)
    fresh_bus.activity.note("during", None, "custom.progress", TS, pipeline="p")
    await asyncio.sleep(0)
    await asyncio.to_thread(fresh_server.start)
    async with asyncio.timeout(patient(20)):
        await fresh_bus.activity.flush()
    seen = only_changes(await changes(fresh_bus, lambda change: change.execution_id == "during"))
    assert {change.execution_id for change in seen} == {"before", "during"}


async def test_flushed_history_is_a_gap_to_who_comes_back(fresh_bus: Bus) -> None:
    fresh_bus.activity.note("before", None, "custom.progress", TS, pipeline="p")
    await fresh_bus.activity.flush()
    [before] = only_changes(await changes(fresh_bus, lambda _: True))
    await fresh_bus.commands.command("FLUSHALL")
    fresh_bus.activity.note("after", None, "custom.progress", TS, pipeline="p")
    gap, after = await changes(fresh_bus, lambda change: change.execution_id == "after", after=before.cursor)
    assert isinstance(gap, Gap)
    assert isinstance(after, Change)
