"""Following among strangers, slow readers and leavers: what one does costs the others nothing."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from tailrace.bus import (
    Bus,
    BusClosedError,
    BusSettings,
    Entry,
    Gap,
    ReplyError,
    Retention,
    open_bus,
)
from tailrace.bus.log.follow import MAX_BUFFERED
from tailrace.bus.log.log import Log
from tests.conftest import ServerOfKind
from tests.integration.bus.followed_runs import data_of, publish, stored_ids, until_watched, watches
from tests.integration.bus.follower import Follower

pytestmark = pytest.mark.anyio


HOSTILE: list[list[str | bytes]] = [
    ["t", "my.event", "d", '{"x":1}'],
    ["x", "y"],
    ["t", ""],
    ["t", "stream.end"],
    ["t", "a", "d", "{broken"],
    ["t", "a", "d", b"\xff\xfe"],
    ["t", "a", "d", '{"a":\n1}'],
    ["t", "a\nid: 1-1", "d", "1"],
    ["t", "a", "s", "x\ndata: y"],
    ["t", "a", "d", "[" * 300 + "\n" + "]" * 300],
    ["t", "a", "d", '"' + "x" * 300_000 + '"'],
    ["t", "a", "e", "gzip", "d", b"\x1f\x8b"],
    ["t", "execution.failed"],
]


async def test_whatever_strangers_write_every_id_reaches_every_reader(tailing_bus: Bus) -> None:
    log = tailing_bus.keys.log("run")
    async with Follower(tailing_bus, "run") as live:
        for fields in HOSTILE:
            await publish(tailing_bus, "run", 0, 0)
            await tailing_bus.commands.command("XADD", log, "*", *fields)
        await publish(tailing_bus, "run", 0, 0, end=True)
        async with Follower(tailing_bus, "run") as replay:
            for reader in (live, replay):
                await reader.end()
                assert [entry.cursor for entry in reader.entries] == await stored_ids(tailing_bus, "run")
                assert reader.gaps == []
                assert all(b"\n" not in entry.raw_data for entry in reader.entries)


async def test_a_key_that_is_no_stream_is_an_error_for_its_reader_alone(tailing_bus: Bus) -> None:
    await tailing_bus.commands.command("SET", tailing_bus.keys.log("broken"), "a string", "EX", 60)
    async with Follower(tailing_bus, "broken") as broken, Follower(tailing_bus, "run") as good:
        with pytest.raises(ReplyError, match="WRONGTYPE"):
            await broken.end()
        await publish(tailing_bus, "run", 0, 9, end=True)
        assert (await good.end())[-1] == "execution.completed"


async def test_a_key_that_becomes_something_else_is_an_error_for_its_reader_alone(bus: Bus) -> None:
    await publish(bus, "broken", 0, 0)
    async with Follower(bus, "broken") as broken, Follower(bus, "run") as good:
        await broken.until(lambda f: len(f.entries) == 1)
        await bus.commands.command("SET", bus.keys.log("broken"), "a string", "EX", 60)
        with pytest.raises(ReplyError, match="WRONGTYPE"):
            await broken.end()
        await publish(bus, "run", 0, 9, end=True)
        assert (await good.end())[-1] == "execution.completed"


async def test_a_slow_reader_owns_a_cursor_not_a_queue_and_still_gets_everything(tailing_bus: Bus) -> None:
    total = 3 * MAX_BUFFERED
    await publish(tailing_bus, "run", 0, 0)
    async with aclosing(tailing_bus.follow("run")) as items:
        first = await anext(items)
        assert isinstance(first, Entry)
        pending = asyncio.ensure_future(anext(items))
        await asyncio.sleep(0.05)
        await publish(tailing_bus, "run", 1, total, end=True)
        seen = [first, await pending]
        # Everything is written by now, and more than it may hold.
        await asyncio.sleep(0.3)
        seen += [item async for item in items]
    assert [item.data for item in seen if isinstance(item, Entry)] == [*range(total + 1), None]
    assert not any(isinstance(item, Gap) for item in seen)


@pytest.mark.parametrize("last_batch", [10, 48, 49, 400])
async def test_the_ending_that_overflows_a_slow_reader_does_not_cut_it_short(bus: Bus, last_batch: int) -> None:
    """The last page and the ending came together, and the page did not fit: that is no end."""
    buffered = MAX_BUFFERED - 48

    async def append(first: int, last: int, *ending: list[bytes]) -> None:
        await bus.log.append(
            "run", [[b"t", b"a", b"d", b"%d" % number] for number in range(first, last + 1)] + [*ending]
        )

    await append(0, 0)
    async with aclosing(bus.follow("run")) as items, Follower(bus, "run", delay_seconds=0) as other:
        seen = [await anext(items)]
        pending = asyncio.ensure_future(anext(items))
        await until_watched(bus, 2)
        await append(1, 1)
        seen.append(await pending)
        await append(2, 1000)
        await append(1001, 1900)
        await append(1901, buffered + 1)
        await other.until(lambda f: len(f.entries) == buffered + 2)
        await append(buffered + 2, buffered + last_batch, [b"t", b"execution.completed"])
        await other.end()
        await until_watched(bus, 0)
        seen += [item async for item in items]
    assert [item.data for item in seen if isinstance(item, Entry)] == [*range(buffered + last_batch + 1), None]


async def test_many_follow_many_runs_and_each_gets_its_own(tailing_bus: Bus) -> None:
    runs = [f"run{i}" for i in range(80)]
    followers = [Follower(tailing_bus, run) for run in runs for _ in range(3)]
    await asyncio.gather(*(publish(tailing_bus, run, i * 100, i * 100 + 19, end=True) for i, run in enumerate(runs)))
    for index, follower in enumerate(followers):
        await follower.end()
        start = index // 3 * 100
        assert data_of(follower) == list(range(start, start + 20))
    assert await watches(tailing_bus) == 0


async def test_a_cancelled_reader_leaves_no_watch_behind(tailing_bus: Bus) -> None:
    followers = [Follower(tailing_bus, f"run{i}") for i in range(10)]
    await until_watched(tailing_bus, 10)
    for follower in followers:
        follower.task.cancel()
    await asyncio.wait([follower.task for follower in followers])
    assert await watches(tailing_bus) == 0


async def test_a_reader_that_leaves_its_loop_leaves_no_watch_behind(tailing_bus: Bus) -> None:
    await publish(tailing_bus, "run", 0, 0)
    async with aclosing(tailing_bus.follow("run")) as items:
        async for _ in items:
            waiting = asyncio.ensure_future(anext(items))
            await asyncio.sleep(0.05)
            assert await watches(tailing_bus) == 1
            waiting.cancel()
            await asyncio.wait([waiting])
            break
    assert await watches(tailing_bus) == 0


async def test_closing_the_bus_ends_those_who_follow_with_an_error(each_server_url: str, prefix: str) -> None:
    for mode in ("tracking", "blocking"):
        bus = await open_bus(each_server_url, settings=BusSettings(prefix=prefix, tail=mode))
        followers = [Follower(bus, f"run{i}") for i in range(3)]
        await until_watched(bus, 3)
        await bus.aclose()
        for follower in followers:
            with pytest.raises(BusClosedError):
                await follower.end()


async def test_an_idle_follower_costs_next_to_nothing(server_of_kind: ServerOfKind, prefix: str) -> None:
    async with await open_bus(server_of_kind("valkey").url, settings=BusSettings(prefix=prefix)) as bus:

        async def commands_processed() -> int:
            stats = await bus.commands.command("INFO", "stats")
            text = (stats if isinstance(stats, bytes) else str(stats).encode()).decode()
            return int(text.partition("total_commands_processed:")[2].split()[0])

        followers = [Follower(bus, f"run{i}") for i in range(20)]
        for i in range(20):
            await publish(bus, f"run{i}", 0, 0)
        for follower in followers:
            await follower.until(lambda f: len(f.entries) == 1)
        await asyncio.sleep(0.1)
        before = await commands_processed()
        await asyncio.sleep(0.5)
        assert await commands_processed() - before < 20
        for follower in followers:
            follower.task.cancel()
        await asyncio.wait([follower.task for follower in followers])


async def test_the_bounds_of_a_log_hold_while_it_is_followed(bus: Bus) -> None:
    log = Log(bus.commands, bus.keys, counters=bus.counters, retention=Retention(max_entries=100))
    async with Follower(bus, "run") as follower:
        for number in range(40):
            await log.append("run", [[b"t", b"a", b"d", b"%d" % (number * 50 + i)] for i in range(50)])
            await follower.until(lambda f, number=number: len(f.entries) == (number + 1) * 50)  # type: ignore[misc]
        assert follower.gaps == []
    assert len(await stored_ids(bus, "run")) <= 300
