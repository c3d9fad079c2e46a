"""Following an execution on real servers: exactly the suffix, every loss told, one ending."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from bus import (
    START,
    Bus,
    BusClosedError,
    BusSettings,
    Cursor,
    Entry,
    Gap,
    InvalidCursorError,
    InvalidExecutionIdError,
    ReplyError,
    Retention,
    open_bus,
)
from bus.continuity import Numbering
from bus.cursor import from_id
from bus.follow import MAX_BUFFERED
from bus.log import Log
from bus.subscription import Subscription
from tests.conftest import ServerOfKind
from tests.integration.bus.follower import Follower

pytestmark = pytest.mark.anyio


async def publish(bus: Bus, run: str, first: int, last: int, *, end: bool = False) -> None:
    publisher = bus.publisher(run)
    for number in range(first, last + 1):
        await publisher.emit("a", number)
    if end:
        await publisher.emit("execution.completed")
    await publisher.aclose()


def data_of(follower: Follower) -> list[Any]:
    return [entry.data for entry in follower.entries if entry.type == "a"]


async def watches(bus: Bus) -> int:
    tail: Any = await bus.tail()
    if tail.mode == "tracking":
        return sum(1 for key in tail._watches for _ in tail._of_key(key))
    return sum(len(group.watches) for group in tail._groups)


async def until_watched(bus: Bus, count: int) -> None:
    async with asyncio.timeout(10):
        while await watches(bus) != count:  # noqa: ASYNC110 - the tail tells nobody
            await asyncio.sleep(0.005)


async def stored_ids(bus: Bus, run: str) -> list[Cursor]:
    raw = await bus.commands.command("XRANGE", bus.keys.log(run), "-", "+")
    return [from_id(entry_id) for entry_id, _ in raw]


async def test_replay_then_live_then_the_ending_with_nothing_between_them_lost(tailing_bus: Bus) -> None:
    await publish(tailing_bus, "run", 0, 1499)
    async with Follower(tailing_bus, "run") as follower:
        await follower.until(lambda f: len(f.entries) >= 700)
        await publish(tailing_bus, "run", 1500, 1999)
        await follower.until(lambda f: len(f.entries) == 2000)
        await publish(tailing_bus, "run", 2000, 2009, end=True)
        assert (await follower.end())[-1] == "execution.completed"
    assert data_of(follower) == list(range(2010))
    assert [entry.cursor for entry in follower.entries] == await stored_ids(tailing_bus, "run")


async def test_case_04_a_run_that_does_not_exist_yet_is_followed_from_its_first_entry(tailing_bus: Bus) -> None:
    followers = [Follower(tailing_bus, "run", after) for after in (START, "0", "-1", "", "0-0")]
    await asyncio.sleep(0.05)
    await publish(tailing_bus, "run", 0, 9, end=True)
    for follower in followers:
        assert await follower.end() == ["a"] * 10 + ["execution.completed"]


async def test_case_05_joining_while_it_is_being_written_misses_and_doubles_nothing(tailing_bus: Bus) -> None:
    publisher = tailing_bus.publisher("run")
    followers = []
    for number in range(600):
        await publisher.emit("a", number)
        if number % 20 == 0:
            followers.append(Follower(tailing_bus, "run"))
            await asyncio.sleep(0)
        elif number % 7 == 0:
            await publisher.flush()
    await publisher.append("execution.completed")
    for follower in followers:
        await follower.end()
        assert follower.gaps == []
        assert data_of(follower) == list(range(600))
    await publisher.aclose()


async def test_any_cursor_of_the_log_resumes_exactly_behind_it(bus: Bus) -> None:
    await publish(bus, "run", 0, 99)
    for _ in range(20):
        await bus.commands.command("XADD", bus.keys.log("run"), "*", "t", "b", "d", "1")
    await publish(bus, "run", 100, 199, end=True)
    ids = await stored_ids(bus, "run")
    for index in range(0, len(ids) - 1, 9):
        async with Follower(bus, "run", str(ids[index])) as follower:
            await follower.end()
            assert follower.gaps == []
            assert [entry.cursor for entry in follower.entries] == ids[index + 1 :]


async def test_a_reader_at_the_terminal_entry_ends_at_once_without_an_item(bus: Bus) -> None:
    await publish(bus, "run", 0, 3, end=True)
    last = (await stored_ids(bus, "run"))[-1]
    async with Follower(bus, "run", last) as follower:
        assert await follower.end() == []


async def test_case_01_a_trimmed_cursor_gets_one_gap_before_data_and_the_run_continues(tailing_bus: Bus) -> None:
    await publish(tailing_bus, "run", 0, 99)
    ids = await stored_ids(tailing_bus, "run")
    await tailing_bus.commands.command("XTRIM", tailing_bus.keys.log("run"), "MAXLEN", 40)
    async with Follower(tailing_bus, "run", ids[10]) as follower, Follower(tailing_bus, "run") as newcomer:
        for reader, requested in ((follower, ids[10]), (newcomer, START)):
            await reader.until(lambda f: len(f.entries) == 40)
            assert reader.items[0] == Gap(requested, ids[60], ids[99], "trimmed")
            assert reader.types == ["gap:trimmed"] + ["a"] * 40
        await publish(tailing_bus, "run", 100, 109, end=True)
        for reader in (follower, newcomer):
            await reader.end()
            assert len(reader.gaps) == 1
            assert data_of(reader) == list(range(60, 110))


async def test_case_01_what_was_trimmed_while_a_slow_reader_was_elsewhere_is_told_in_its_place(bus: Bus) -> None:
    await publish(bus, "run", 0, 1999)
    async with aclosing(bus.follow("run")) as items:
        seen: list[Entry | Gap] = [await anext(items) for _ in range(5)]
        await bus.commands.command("XTRIM", bus.keys.log("run"), "MAXLEN", 100)
        await publish(bus, "run", 2000, 2000, end=True)
        seen += [item async for item in items]
    gaps = [item for item in seen if isinstance(item, Gap)]
    assert [gap.reason for gap in gaps] == ["trimmed"]
    before = [item.data for item in seen[: seen.index(gaps[0])] if isinstance(item, Entry)]
    after = [item.data for item in seen[seen.index(gaps[0]) :] if isinstance(item, Entry)]
    assert before == list(range(len(before)))
    assert after == [*range(1900, 2001), None]


async def test_case_02_a_cursor_ahead_of_the_tail_is_a_gap_at_once_and_the_run_continues(tailing_bus: Bus) -> None:
    await publish(tailing_bus, "run", 0, 4)
    last = (await stored_ids(tailing_bus, "run"))[-1]
    async with Follower(tailing_bus, "run", Cursor(last.ms + 100_000, 9)) as follower:
        await follower.until(lambda f: f.types == ["gap:rewound"])
        await publish(tailing_bus, "run", 5, 6, end=True)
        await follower.end()
        assert data_of(follower) == [5, 6]
        assert len(follower.gaps) == 1


async def test_case_02_a_cursor_of_another_log_is_a_gap(bus: Bus) -> None:
    await publish(bus, "run", 0, 4, end=True)
    async with Follower(bus, "run", Cursor(1000, 3)) as follower:
        assert await follower.end() == ["gap:flushed"] + ["a"] * 5 + ["execution.completed"]
    async with Follower(bus, "nothing", Cursor(1000, 3)) as follower:
        await follower.until(lambda f: f.types == ["gap:flushed"])
        await publish(bus, "nothing", 0, 1, end=True)
        assert await follower.end() == ["gap:flushed", "a", "a", "execution.completed"]


async def test_case_02_a_log_that_is_deleted_and_written_again_while_it_is_followed_is_a_gap(tailing_bus: Bus) -> None:
    """Told before the first new entry, though its numbers look like those of a stranger."""
    await publish(tailing_bus, "run", 0, 9)
    async with Follower(tailing_bus, "run") as follower:
        await follower.until(lambda f: len(f.entries) == 10)
        await until_watched(tailing_bus, 1)
        await tailing_bus.commands.command("DEL", *tailing_bus.keys.of_execution("run"))
        await asyncio.sleep(0.002)
        await publish(tailing_bus, "run", 100, 104)
        await follower.until(lambda f: len(f.entries) == 15)
        assert len(follower.gaps) == 1
        assert follower.types.index(f"gap:{follower.gaps[0].reason}") == 10
        await publish(tailing_bus, "run", 105, 105, end=True)
        await follower.end()
    assert len(follower.gaps) == 1
    assert data_of(follower) == [*range(10), *range(100, 106)]


@pytest.mark.parametrize("cursor", ["$", "1-", "abc", "1-1\n", "-2"])
async def test_case_03_a_malformed_cursor_is_refused_before_redis_is_asked(bus: Bus, cursor: str) -> None:
    with pytest.raises(InvalidCursorError):
        await anext(bus.follow("run", cursor))


async def test_a_malformed_id_is_refused_before_redis_is_asked(bus: Bus) -> None:
    for follow in (bus.follow("no such {id}"), bus.follow("")):
        with pytest.raises(InvalidExecutionIdError):
            await anext(follow)


async def test_case_06_an_ending_that_nobody_was_woken_for_is_found_by_looking(bus: Bus) -> None:
    """A tail that is never told of anything: the silence makes the reader look."""

    class DeafTail:
        mode = "deaf"

        def watch(self, *_: object) -> Any:
            class Watch:
                def suspend(self) -> None: ...
                def resume(self, cursor: Cursor) -> None: ...
                def close(self) -> None: ...

            return Watch()

    ended = asyncio.Event()
    seen: list[Entry | Gap] = []

    class Reader:
        def news(self, items: Any) -> None:
            seen.extend(items)

        def end(self) -> None:
            ended.set()

        def fail(self, error: Exception) -> None:
            raise error

    Subscription(bus.log, DeafTail(), "run", Numbering.after(START), Reader(), stale_seconds=0.1)  # type: ignore[arg-type]
    await publish(bus, "run", 0, 4, end=True)
    async with asyncio.timeout(5):
        await ended.wait()
    assert [item.type for item in seen if isinstance(item, Entry)] == ["a"] * 5 + ["execution.completed"]


async def test_case_06_the_ending_is_seen_by_everybody_who_follows(tailing_bus: Bus) -> None:
    followers = [Follower(tailing_bus, "run") for _ in range(30)]
    await publish(tailing_bus, "run", 0, 9, end=True)
    for follower in followers:
        assert await follower.end() == ["a"] * 10 + ["execution.completed"]
    assert await watches(tailing_bus) == 0


async def test_case_08_an_expired_log_whose_state_remains_ends_at_once_with_a_gap(tailing_bus: Bus) -> None:
    await publish(tailing_bus, "run", 0, 4, end=True)
    ids = await stored_ids(tailing_bus, "run")
    await tailing_bus.commands.command("DEL", tailing_bus.keys.log("run"))
    for after in (START, ids[2]):
        async with Follower(tailing_bus, "run", after) as follower:
            assert await follower.end() == ["gap:expired"]
            assert follower.gaps == [Gap(after, None, None, "expired")]
    async with Follower(tailing_bus, "run", ids[-1]) as follower:
        # Whoever has seen the ending is told of no more than that its proof is gone.
        assert (await follower.end()) in ([], ["gap:expired"])


async def test_case_08_a_log_that_expires_while_it_is_followed_ends_for_its_followers(bus: Bus) -> None:
    """Its events are gone with it; the state still says that it ended."""
    async with Follower(bus, "run") as follower:
        # Live before there is anything: what vanishes between replay and watch is found by the silence only.
        await until_watched(bus, 1)
        await publish(bus, "run", 0, 4)
        await follower.until(lambda f: len(f.entries) == 5)
        await bus.commands.command(
            "EVAL",
            "redis.call('HSET', KEYS[2], 'terminal', ARGV[1], 'status', 'completed'); redis.call('DEL', KEYS[1])",
            2,
            bus.keys.log("run"),
            bus.keys.meta("run"),
            "99999999999999-6",
        )
        assert await follower.end() == ["a"] * 5 + ["gap:expired"]


async def test_case_09_a_missing_key_is_not_taken_for_an_ending(tailing_bus: Bus) -> None:
    async with Follower(tailing_bus, "run") as follower:
        await asyncio.sleep(0.3)
        assert not follower.task.done()
        await publish(tailing_bus, "run", 0, 0, end=True)
        assert await follower.end() == ["a", "execution.completed"]


async def test_case_12_entries_of_producers_whose_clocks_disagree_are_in_order(tailing_bus: Bus) -> None:
    """Ids are Redis's own: what a producer thinks the time is, is only data."""
    async with Follower(tailing_bus, "run") as follower:
        publishers = [tailing_bus.publisher("run") for _ in range(5)]
        for number in range(50):
            await publishers[number % 5].append("a", number)
        await publishers[0].append("execution.completed")
        await follower.end()
        for publisher in publishers:
            await publisher.aclose()
    assert data_of(follower) == list(range(50))
    cursors = [entry.cursor for entry in follower.entries]
    assert cursors == sorted(cursors)
    assert [cursor.n for cursor in cursors] == list(range(1, 52))


async def test_case_13_every_id_that_a_reader_gets_is_one_of_the_log(tailing_bus: Bus) -> None:
    await publish(tailing_bus, "run", 0, 99)
    await tailing_bus.commands.command("XTRIM", tailing_bus.keys.log("run"), "MAXLEN", 50)
    await publish(tailing_bus, "run", 100, 100, end=True)
    async with Follower(tailing_bus, "run") as follower:
        await follower.end()
    assert [entry.cursor for entry in follower.entries] == await stored_ids(tailing_bus, "run")
    assert not any(hasattr(gap, "id") or hasattr(gap, "cursor") for gap in follower.gaps)


async def test_case_14_every_event_has_an_id_of_its_own(tailing_bus: Bus) -> None:
    async with Follower(tailing_bus, "run") as follower:
        await publish(tailing_bus, "run", 0, 999, end=True)
        await follower.end()
    ids = [entry.id for entry in follower.entries]
    assert len(set(ids)) == len(ids) == 1001


async def test_case_17_a_long_log_is_read_in_pages(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    await publish(bus, "run", 0, 2999, end=True)
    asked: list[int] = []
    command = bus.commands.command

    async def spy(*parts: Any) -> Any:
        if parts[0] == "XRANGE":
            asked.append(parts[5])
        return await command(*parts)

    monkeypatch.setattr(bus.commands, "command", spy)
    async with Follower(bus, "run") as follower:
        await follower.end()
    assert data_of(follower) == list(range(3000))
    assert len(asked) >= 6
    assert max(asked) <= 513


async def test_case_27_an_ending_that_a_stranger_claims_ends_nothing(tailing_bus: Bus) -> None:
    log = tailing_bus.keys.log("run")
    await publish(tailing_bus, "run", 0, 0)
    async with Follower(tailing_bus, "run") as follower:
        await follower.until(lambda f: len(f.entries) == 1)
        await tailing_bus.commands.command("XADD", log, "*", "t", "execution.completed", "d", "1")
        await follower.until(lambda f: len(f.entries) == 2)
        await publish(tailing_bus, "run", 1, 1, end=True)
        async with Follower(tailing_bus, "run") as newcomer:
            for reader in (follower, newcomer):
                assert await reader.end() == ["a", "dropped", "a", "execution.completed"]
                assert reader.entries[1].data == {"reason": "not_the_ending", "type": "execution.completed"}


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
