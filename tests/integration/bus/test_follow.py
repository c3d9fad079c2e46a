"""Following an execution on real servers: exactly the suffix, every loss told, one ending."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from tailrace.bus import (
    START,
    Bus,
    Cursor,
    Entry,
    ExecutionUnknownError,
    Gap,
    InvalidCursorError,
    InvalidExecutionIdError,
    InvalidInputError,
)
from tailrace.bus.log.subscription import Subscription
from tailrace.bus.model.continuity import Numbering
from tests.integration.bus.followed_runs import data_of, publish, stored_ids, until_watched, watches
from tests.integration.bus.follower import Follower
from tests.patience import patient

pytestmark = pytest.mark.anyio


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

        def end(self, status: object) -> None:
            del status
            ended.set()

        def fail(self, error: Exception) -> None:
            raise error

    Subscription(bus.log, DeafTail(), "run", Numbering.after(START), Reader(), stale_seconds=0.1)  # type: ignore[arg-type]
    await publish(bus, "run", 0, 4, end=True)
    async with asyncio.timeout(patient(5)):
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


async def test_silence_is_told_as_often_as_it_was_asked_for_and_loses_nothing(tailing_bus: Bus) -> None:
    got: list[Any] = []
    written = 0
    async with aclosing(tailing_bus.follow("run", heartbeat_seconds=0.05)) as items:
        async for item in items:
            got.append(item)
            if got[-2:] == [None, None] and written < 4:
                await publish(tailing_bus, "run", written, written + 1, end=written == 2)
                written += 2
    assert [item.data for item in got if isinstance(item, Entry) and item.type == "a"] == [0, 1, 2, 3]
    assert got[:2] == [None, None]
    assert got[-1].type == "execution.completed"


async def test_one_that_does_not_begin_in_time_is_unknown(tailing_bus: Bus) -> None:
    for wait in (0, 0.1):
        async with aclosing(tailing_bus.follow("nobody", wait=wait)) as items:
            with pytest.raises(ExecutionUnknownError):
                await anext(items)


async def test_one_that_begins_in_time_is_followed_for_as_long_as_it_takes(tailing_bus: Bus) -> None:
    got: list[Any] = []
    async with aclosing(tailing_bus.follow("run", wait=patient(5), heartbeat_seconds=0.02)) as items:
        async for item in items:
            if not got:
                await publish(tailing_bus, "run", 0, 0)
            got.append(item)
            if got.count(None) > 3 and (got[-1] is None):
                await publish(tailing_bus, "run", 1, 1, end=True)
    assert [item.data for item in got if isinstance(item, Entry) and item.type == "a"] == [0, 1]


async def test_one_that_waits_in_its_queue_is_known(tailing_bus: Bus) -> None:
    await tailing_bus.submit("nobody-takes-this", {}, execution_id="queued")
    async with aclosing(tailing_bus.follow("queued", "tail", wait=0, heartbeat_seconds=0.05)) as items:
        assert await anext(items) is None


async def test_the_tail_is_what_comes_from_now_on(tailing_bus: Bus) -> None:
    await publish(tailing_bus, "run", 0, 4)
    async with aclosing(tailing_bus.follow("run", "tail", heartbeat_seconds=0.05)) as items:
        assert await anext(items) is None
        await publish(tailing_bus, "run", 5, 5)
        first = await anext(item async for item in items if item is not None)
        assert isinstance(first, Entry)
        assert first.data == 5


@pytest.mark.parametrize(("field", "value"), [("heartbeat_seconds", 0), ("heartbeat_seconds", -1), ("wait", -1)])
async def test_what_cannot_be_waited_for_is_refused_by_name(tailing_bus: Bus, field: str, value: float) -> None:
    with pytest.raises(InvalidInputError) as refused:
        await anext(tailing_bus.follow("run", **{field: value}))  # type: ignore[call-overload]
    assert refused.value.field == field
