"""Handlers that follow executions: every event once, in order; after a crash what may have been handled is marked."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tailrace.bus import Bus, BusSettings, open_bus
from tailrace.workers.handlers import Delivery, Handlers
from tailrace.workers.handlers.reader import GroupReader
from tests.integration.workers.conftest import LEASE_SECONDS
from tests.integration.workers.watching import until, until_true
from tests.patience import patient
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio


class Seen:
    """What handlers got, by execution."""

    def __init__(self) -> None:
        self.by_run: dict[str, list[Delivery]] = defaultdict(list)

    async def __call__(self, event: Delivery) -> None:
        self.by_run[event.execution_id].append(event)

    def numbers(self, run: str) -> list[Any]:
        return [event.data["n"] for event in self.by_run[run] if event.type == "custom.n"]

    def types(self, run: str) -> list[str]:
        return [event.type for event in self.by_run[run]]

    def ended(self, *runs: str) -> Callable[[], bool]:
        return lambda: all("execution.completed" in self.types(run) for run in runs)


@asynccontextmanager
async def following(bus: Bus, handlers: Handlers, group: str = "billing", **options: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(handlers.follow_all(bus, group, **options))
    try:
        yield
        assert not task.done() or task.exception() is None
    finally:
        task.cancel()
        await asyncio.wait([task])


def handlers_of(*subscribers: Any) -> Handlers:
    handlers = Handlers()
    for subscriber in subscribers:
        handlers.add(subscriber)
    return handlers


async def emit(bus: Bus, run: str, count: int = 3) -> None:
    async with bus.execution(run) as execution:
        for number in range(count):
            await execution.emit("custom.n", {"n": number})


async def pending(bus: Bus, group: str = "billing") -> int:
    return int((await bus.commands.command("XPENDING", bus.keys.activity(), group))[0])


async def until_all_acknowledged(bus: Bus, group: str = "billing") -> None:
    async def none_left() -> bool:
        info = await bus.commands.command("XINFO", "GROUPS", bus.keys.activity())
        [found] = [entry for entry in info if entry[b"name"] == group.encode()]
        return int(found[b"pending"]) == 0 and int(found[b"lag"] or 0) == 0

    await until_true(none_left)


async def test_one_execution_is_followed_from_its_beginning_to_its_end(bus: Bus) -> None:
    seen, failing = Seen(), Handlers()
    failing.add(seen)

    @failing.on("*")
    def broken(_: Delivery) -> None:
        raise OSError("no space left on device")

    await emit(bus, "run", 20)
    async with asyncio.timeout(patient(20)):
        await failing.follow(bus, "run")
    assert seen.numbers("run") == list(range(20))
    assert sum(failing.failures.values()) == 22


async def test_all_executions_are_followed_those_before_and_those_to_come(bus: Bus) -> None:
    seen = Seen()
    await emit(bus, "before")
    async with following(bus, handlers_of(seen)):
        await emit(bus, "after")
        await until(seen.ended("before", "after"))
        await until_all_acknowledged(bus)
    for run in ("before", "after"):
        assert seen.types(run) == ["execution.started", *["custom.n"] * 3, "execution.completed"]
        assert not any(event.repeated for event in seen.by_run[run])


async def test_events_come_while_the_execution_runs_and_not_at_its_end(bus: Bus) -> None:
    seen = Seen()
    async with following(bus, handlers_of(seen)), bus.execution("run") as execution:
        await execution.emit("custom.n", {"n": 1})
        await until(lambda: seen.numbers("run") == [1])


async def test_from_now_on_passes_over_what_had_ended(bus: Bus) -> None:
    seen = Seen()
    await emit(bus, "before")
    await bus.activity.flush()
    async with following(bus, handlers_of(seen), since="now"):
        await until_true(lambda: group_exists(bus))
        await emit(bus, "after")
        await until(seen.ended("after"))
    assert "before" not in seen.by_run


async def group_exists(bus: Bus) -> bool:
    return bool(await bus.commands.command("XINFO", "GROUPS", bus.keys.activity()))


async def test_after_a_stop_the_next_goes_on_where_it_was_and_repeats_nothing(bus: Bus) -> None:
    seen = Seen()
    async with bus.execution("run") as execution:
        async with following(bus, handlers_of(seen)):
            await execution.append("custom.n", {"n": 1})
            await until(lambda: seen.numbers("run") == [1])
        await execution.append("custom.n", {"n": 2})
        async with following(bus, handlers_of(seen)):
            await execution.append("custom.n", {"n": 3})
            await until(lambda: seen.numbers("run") == [1, 2, 3])
    async with following(bus, handlers_of(seen)):
        await until(seen.ended("run"))
        await until_all_acknowledged(bus)
    assert seen.types("run") == ["execution.started", *["custom.n"] * 3, "execution.completed"]
    assert not any(event.repeated for event in seen.by_run["run"])


async def test_what_is_being_handled_when_told_to_stop_may_end(bus: Bus) -> None:
    handled: list[int] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(event: Delivery) -> None:
        begun.set()
        await go_on.wait()
        handled.append(event.data["n"])

    handlers = Handlers()
    handlers.add(slow, "custom.n")
    await emit(bus, "run")
    reader = GroupReader(bus, "billing", handlers.handle)
    stopping = asyncio.create_task(reader.run())
    await begun.wait()
    stopping.cancel()
    await until(lambda: all(reading._stopped for reading in reader._readings.values()))
    go_on.set()
    await asyncio.wait([stopping])
    assert handled == [0]
    async with following(bus, handlers):
        await until(lambda: handled == [0, 1, 2])


async def test_after_a_crash_nothing_is_missing_and_what_may_be_repeated_is_marked(bus: Bus) -> None:
    """The reader is cut off from all its noting, as when its process is killed."""
    seen, after = Seen(), Seen()
    async with bus.execution("run") as execution:
        crashed = GroupReader(bus, "billing", handlers_of(seen).handle)
        reading = asyncio.create_task(crashed._take_all())
        for number in range(3):
            await execution.append("custom.n", {"n": number})
        await until(lambda: seen.numbers("run") == [0, 1, 2])
        reading.cancel()
        await asyncio.wait([reading])
        for each in crashed._readings.values():
            each.task.cancel()
        async with following(bus, handlers_of(after)):
            await until(lambda: after.numbers("run") == [0, 1, 2])
            await execution.append("custom.n", {"n": 3})
            await until(lambda: after.numbers("run") == [0, 1, 2, 3])
    marks = {event.data["n"]: event.repeated for event in after.by_run["run"] if event.type == "custom.n"}
    assert marks == {0: True, 1: True, 2: True, 3: False}


async def test_a_reader_that_was_taken_for_dead_lets_go(bus: Bus) -> None:
    first, second = Seen(), Seen()
    async with bus.execution("run") as execution, following(bus, handlers_of(first)):
        await execution.append("custom.n", {"n": 0})
        await until(lambda: first.numbers("run") == [0])
        # What happens when it stands still for longer than its lease.
        await bus.commands.command("HSET", bus.keys.bookmark("run", "billing"), "reader", "another", "until", 1)
        await until(lambda: bus.counters["handler_bookmarks_lost"] == 1)
        async with following(bus, handlers_of(second)):
            # The change that stands for it is claimed when its holder has kept it no longer.
            await until(lambda: second.numbers("run") == [0] or first.numbers("run") == [0, 0])


async def test_readers_share_the_executions_and_each_event_is_handled_once(bus: Bus) -> None:
    ones = [Seen() for _ in range(3)]
    runs = [f"run-{number}" for number in range(30)]
    async with following(bus, handlers_of(ones[0])), following(bus, handlers_of(ones[1])):
        async with following(bus, handlers_of(ones[2])):
            await asyncio.gather(*(emit(bus, run) for run in runs))
            await until(lambda: all(any(one.ended(run)() for one in ones) for run in runs))
        await until_all_acknowledged(bus)
    for run in runs:
        assert [one.numbers(run) for one in ones if one.by_run[run]] == [[0, 1, 2]]


async def test_groups_do_not_take_from_each_other(bus: Bus) -> None:
    one, other = Seen(), Seen()
    await emit(bus, "run")
    async with following(bus, handlers_of(one), "billing"), following(bus, handlers_of(other), "audit"):
        await until(lambda: one.ended("run")() and other.ended("run")())
    assert one.types("run") == other.types("run")


async def test_a_change_told_twice_repeats_nothing(bus: Bus) -> None:
    seen = Seen()
    await emit(bus, "run")
    async with following(bus, handlers_of(seen)):
        await until(seen.ended("run"))
        await until_all_acknowledged(bus)
        state = await bus.state("run")
        assert state is not None
        bus.activity.note("run", state.terminal, "execution.completed", "2026-01-02T03:04:05.000000Z")
        await bus.activity.flush()
        await emit(bus, "next")
        await until(seen.ended("next"))
        await until_all_acknowledged(bus)
    assert seen.types("run").count("execution.completed") == 1


async def test_more_executions_than_may_be_followed_at_a_time_wait_their_turn(bus: Bus) -> None:
    seen = Seen()
    runs = [f"run-{number}" for number in range(7)]
    for run in runs:
        await emit(bus, run)
    async with following(bus, handlers_of(seen), max_executions=2):
        await until(seen.ended(*runs))


async def test_an_execution_that_is_gone_holds_nobody_up(bus: Bus) -> None:
    seen = Seen()
    await emit(bus, "gone")
    await bus.activity.flush()
    await bus.commands.command("DEL", bus.keys.log("gone"), bus.keys.meta("gone"))
    async with following(bus, handlers_of(seen)):
        await until_true(lambda: group_exists(bus))
        await until_all_acknowledged(bus)
    assert bus.counters["handler_executions_gone"] == 1


async def test_what_strangers_put_where_it_does_not_belong_holds_nobody_up(bus: Bus) -> None:
    seen = Seen()
    await bus.commands.command("XADD", bus.keys.activity(), "*", "any", "thing")
    await bus.commands.command("SET", bus.keys.bookmark("odd", "billing"), "no bookmark")
    await emit(bus, "odd")
    await emit(bus, "run")
    async with following(bus, handlers_of(seen)):
        await until(seen.ended("run"))
        await until_all_acknowledged(bus)
    assert bus.counters["handler_bookmarks_unusable"] >= 1


async def test_attack_30_a_group_that_was_outrun_is_told_and_says_so(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    await bus.activity.group("billing").open()
    for run in ("one", "two", "three"):
        await emit(bus, run)
    await bus.activity.flush()
    await bus.commands.command("XTRIM", bus.keys.activity(), "MAXLEN", 2)
    seen, gaps = Seen(), list[Delivery]()
    handlers = handlers_of(seen)
    handlers.add(gaps.append, "stream.gap")
    async with following(bus, handlers):
        await until(seen.ended("three"))
    assert bus.counters["activity_gaps"] == 1
    (gap,) = gaps
    assert (gap.execution_id, gap.data["reason"]) == ("", "trimmed")
    assert gap.data["earliest"] > gap.data["requested"]
    assert "were trimmed before it read them" in caplog.text


async def test_an_outage_and_a_flush_are_waited_for(fresh_server: RunningServer, prefix: str) -> None:
    seen = Seen()
    settings = BusSettings(prefix=prefix, lease_seconds=LEASE_SECONDS)
    async with await open_bus(fresh_server.url, settings=settings) as bus, following(bus, handlers_of(seen)):
        await emit(bus, "before")
        await until(seen.ended("before"))
        await asyncio.to_thread(fresh_server.restart)
        await emit(bus, "between")
        await until(seen.ended("between"))
        await bus.commands.command("FLUSHALL")
        await emit(bus, "after")
        await until(seen.ended("after"))
    assert all(seen.numbers(run) == [0, 1, 2] for run in ("before", "between", "after"))
