"""append.lua by itself, on every server it must run on: what it promises in one step, and what it refuses."""

from __future__ import annotations

import asyncio
import time
from typing import Any, NamedTuple

import pytest

from tailrace.bus.errors import ReplyError
from tailrace.bus.log.log import append_script
from tailrace.bus.model.keys import Keys
from tailrace.bus.redis.script import Script
from tailrace.bus.redis.supervised import SupervisedConnection

pytestmark = pytest.mark.anyio

APPEND = append_script()
LIVE_SECONDS, ENDED_SECONDS, ENDED_STATE_SECONDS = 1000, 100, 500
MB = 1024 * 1024


class Reply(NamedTuple):
    ms: int
    n: int
    written: int


class Target:
    """One execution's log, written by the script alone."""

    def __init__(self, line: SupervisedConnection, keys: Keys) -> None:
        self.line = line
        self.keys = keys.of_execution("run")
        self.log, self.meta, self.control, self.checkpoints = self.keys

    async def append(
        self,
        *types: str,
        producer: str = "",
        seq: int = 0,
        fence: int | str = "",
        data: bytes = b"1",
        max_entries: int = 100_000,
        max_bytes: int = 64 * MB,
    ) -> Reply:
        arguments: list[bytes | str | int] = []
        for event_type in types:
            arguments += [4, "t", event_type, "d", data]
        ms, n, written = await APPEND.run(
            self.line, self.keys, producer, seq, fence, max_entries, max_bytes,
            LIVE_SECONDS, ENDED_SECONDS, ENDED_STATE_SECONDS, len(types), "1", *arguments,
        )  # fmt: skip
        return Reply(int(ms), int(n), int(written))

    async def ids(self) -> list[tuple[int, int]]:
        raw = await self.line.command("XRANGE", self.log, "-", "+")
        return [(int(ms), int(n)) for ms, n in (entry_id.split(b"-") for entry_id, _ in raw)]

    async def numbers(self) -> list[int]:
        return [n for _, n in await self.ids()]

    async def types(self) -> list[str]:
        raw = await self.line.command("XRANGE", self.log, "-", "+")
        return [fields[1].decode() for _, fields in raw]

    async def field(self, name: str) -> bytes | None:
        value: bytes | None = await self.line.command("HGET", self.meta, name)
        return value

    async def ttls(self) -> tuple[int, int]:
        return int(await self.line.command("TTL", self.log)), int(await self.line.command("TTL", self.meta))


@pytest.fixture
def target(line: SupervisedConnection, keys: Keys) -> Target:
    return Target(line, keys)


def is_about(ttl: int, seconds: int) -> bool:
    return seconds - 5 <= ttl <= seconds


# Numbering.


async def test_entries_are_numbered_from_one_in_the_servers_own_time(target: Target) -> None:
    before = int(time.time() * 1000)
    replies = [await target.append("a"), await target.append("b", "c"), await target.append("d")]
    after = int(time.time() * 1000)
    assert await target.numbers() == [1, 2, 3, 4]
    assert await target.types() == ["a", "b", "c", "d"]
    ids = await target.ids()
    assert ids == sorted(ids)
    assert [(reply.n, reply.written) for reply in replies] == [(1, 1), (3, 2), (4, 1)]
    assert all(before <= ms <= after for ms, _ in ids)


async def test_a_batch_shares_one_millisecond(target: Target) -> None:
    reply = await target.append(*["a"] * 500)
    assert await target.ids() == [(reply.ms, n) for n in range(1, 501)]


async def test_concurrent_appends_never_share_or_skip_a_number(target: Target) -> None:
    await asyncio.gather(*(target.append("a", "b", producer=f"p{i}", seq=1) for i in range(100)))
    assert await target.numbers() == list(range(1, 201))


async def test_numbering_goes_on_when_the_clock_stands_behind(target: Target) -> None:
    first = await target.append("a")
    ahead = first.ms + 3_600_000
    await target.line.command("HSET", target.meta, "ms", ahead)
    await target.append("b", "c")
    await target.append("d")
    assert await target.ids() == [(first.ms, 1), (ahead, 2), (ahead, 3), (ahead, 4)]


async def test_numbering_goes_on_when_the_state_was_evicted(target: Target) -> None:
    await target.append("a", "b", "c", producer="p", seq=1)
    await target.line.command("DEL", target.meta)
    await target.append("d", producer="p", seq=4)
    assert await target.numbers() == [1, 2, 3, 4]
    assert await target.field("n") == b"4"


async def test_an_evicted_state_does_not_take_an_absurd_strangers_number_for_ours(target: Target) -> None:
    await target.line.command("XADD", target.log, "5-18446744073709551615", "t", "x")
    assert (await target.append("a")).n == 1


# Strangers, who write with plain XADD.


async def test_strangers_do_not_count(target: Target) -> None:
    await target.append("a")
    await asyncio.sleep(0.002)
    await target.line.command("XADD", target.log, "*", "t", "x")
    await asyncio.sleep(0.002)
    await target.append("b")
    assert await target.numbers() == [1, 0, 2]


async def test_a_stranger_in_our_millisecond_costs_us_no_number(target: Target) -> None:
    first = await target.append("a", "b")
    await target.line.command("HSET", target.meta, "ms", first.ms + 60_000)
    second = await target.append("c")
    # As XADD * does when the clock stands still: on from the last id.
    await target.line.command("XADD", target.log, f"{second.ms}-4", "t", "x")
    await target.append("d", "e")
    assert await target.ids() == [
        (first.ms, 1), (first.ms, 2), (second.ms, 3), (second.ms, 4), (second.ms + 1, 4), (second.ms + 1, 5),
    ]  # fmt: skip


@pytest.mark.parametrize("stranger", ["{future}-0", "{future}-2", "{future}-77", "{future}-18446744073709551615"])
async def test_a_stranger_from_the_future_is_overtaken_with_our_own_number(target: Target, stranger: str) -> None:
    first = await target.append("a")
    future = first.ms + 1_000_000
    await target.line.command("XADD", target.log, stranger.format(future=future), "t", "x")
    reply = await target.append("b")
    assert reply.n == 2
    assert future <= reply.ms <= future + 1
    assert (await target.append("c", "d")).n == 4
    ids = await target.ids()
    assert ids == sorted(ids)
    assert len(ids) == 5


@pytest.mark.parametrize(
    "stranger",
    ["18446744073709551615-18446744073709551615", "18446744073709551615-5", "9007199254740993-1", "1000000000000000-0"],
)
async def test_an_id_of_no_clock_is_refused_as_exhausted_and_harms_nothing(target: Target, stranger: str) -> None:
    await target.append("a", producer="p", seq=1)
    await target.line.command("XADD", target.log, stranger, "t", "x")
    with pytest.raises(ReplyError, match=f"^EXHAUSTED {stranger}$"):
        await target.append("b", producer="p", seq=2)
    assert await target.field("n") == b"1"
    # What is there can still be read, and confirmed.
    assert (await target.append("a", producer="p", seq=1)).written == 0
    assert len(await target.ids()) == 2


# Exactly once.


async def test_a_whole_batch_that_comes_again_is_dropped_and_answered_alike(target: Target) -> None:
    first = await target.append("a", "b", producer="p", seq=1)
    again = await target.append("a", "b", producer="p", seq=1)
    assert again == first._replace(written=0)
    assert await target.types() == ["a", "b"]


async def test_of_a_batch_that_was_there_in_part_the_rest_is_appended(target: Target) -> None:
    await target.append("a", "b", producer="p", seq=1)
    reply = await target.append("a", "b", "c", "d", producer="p", seq=1)
    assert (reply.n, reply.written) == (4, 2)
    assert await target.types() == ["a", "b", "c", "d"]


async def test_a_batch_that_closed_the_log_may_come_again_after_the_close(target: Target) -> None:
    first = await target.append("a", "execution.completed", producer="p", seq=1)
    assert await target.append("a", "execution.completed", producer="p", seq=1) == first._replace(written=0)
    with pytest.raises(ReplyError, match=r"^CLOSED"):
        await target.append("execution.failed", producer="p", seq=3)
    with pytest.raises(ReplyError, match=r"^CLOSED"):
        await target.append("a", "execution.completed", "late", producer="p", seq=1)


async def test_producers_count_for_themselves(target: Target) -> None:
    for producer in ("p", "q", "r:s", "p:1", "-", "t"):
        assert (await target.append("a", producer=producer, seq=1)).written == 1
        assert (await target.append("a", producer=producer, seq=1)).written == 0
    assert await target.numbers() == [1, 2, 3, 4, 5, 6]


async def test_without_a_producer_nothing_is_taken_for_a_repetition(target: Target) -> None:
    for _ in range(3):
        assert (await target.append("a")).written == 1


async def test_sequence_numbers_beyond_a_million_million_stay_exact(target: Target) -> None:
    seq = 10**13
    await target.append("a", producer="p", seq=1)
    await target.append("b", producer="p", seq=seq)
    assert await target.field("p:p") is not None
    assert (await target.append("b", producer="p", seq=seq)).written == 0
    assert (await target.append("b", "c", producer="p", seq=seq)).written == 1


async def test_a_log_has_so_many_producers_and_no_more_but_those_it_has_go_on(target: Target) -> None:
    await target.line.command("HSET", target.meta, "producers", 1023)
    await target.append("a", producer="last", seq=1)
    with pytest.raises(ReplyError, match=r"^PRODUCERS 1024$"):
        await target.append("a", producer="one more", seq=1)
    assert (await target.append("b", producer="last", seq=2)).written == 1
    assert (await target.append("c")).written == 1


async def test_attack_17_a_thousand_names_of_strangers_leave_room_for_owner_healer_and_requests(target: Target) -> None:
    await target.append("execution.queued", producer="submit", seq=1)
    await target.line.command("HSET", target.meta, "producers", 1024, "fence", 1, "secret", "s")
    with pytest.raises(ReplyError, match=r"^PRODUCERS 1024$"):
        await target.append("a", producer="stranger", seq=1)
    with pytest.raises(ReplyError, match=r"^PRODUCERS 1024$"):
        await target.append("execution.signal_requested", "a", producer="stranger", seq=1)
    assert (await target.append("execution.started", producer="w.1.body", seq=1, fence="1:s")).written == 1
    assert (await target.append("execution.cancel_requested", producer="control.1", seq=1)).written == 1
    assert (await target.append("execution.cancelled", producer="heal.2", seq=1, fence="2:t")).written == 1


async def test_attack_17_producers_of_owners_and_requests_are_bounded_and_the_quietest_are_forgotten(
    target: Target,
) -> None:
    await target.append("execution.queued", producer="submit", seq=1)
    await target.append("execution.started", producer="w.1.body", seq=1, fence="1:s")
    for number in range(1, 1300):
        await target.append("a", producer=f"w.1.words{number}", seq=1, fence="1:s")
        await target.append("execution.signal_requested", producer=f"control.{number}", seq=1)
        await target.append("execution.signalled", producer=f"w.1.words{number}", seq=2, fence="1:s")
        if number % 100 == 0:
            await target.append("a", producer="w.1.body", seq=1 + number // 100, fence="1:s")
    fields = await target.line.command("HKEYS", target.meta)
    names = [name.decode().removeprefix("p:") for name in fields if name.startswith(b"p:")]
    assert 2 * 800 <= len(names) <= 2 * 1024
    assert "w.1.body" in names
    assert "w.1.words1299" in names
    assert "w.1.words1" not in names
    assert "control.1299" in names
    assert "control.1" not in names
    assert (await target.append("a", producer="w.1.words1299", seq=1, fence="1:s")).written == 0
    assert (await target.append("a", producer="stranger", seq=1)).written == 1


async def test_attack_31_the_ending_pushes_out_nothing_of_what_it_ends(target: Target) -> None:
    # Redis drops whole nodes, of a hundred entries: one more would be dropped without the first hundred.
    await target.append("execution.started", *["a"] * 198, producer="p", seq=1, max_entries=100)
    assert len(await target.numbers()) == 199
    await target.append("execution.completed", producer="p", seq=200, max_entries=100)
    assert await target.numbers() == list(range(1, 201))


async def test_a_producer_that_goes_on_beyond_what_the_log_knows_leaves_a_number_out(target: Target) -> None:
    """What it had appended was lost with a server; the hole tells every reader."""
    await target.append("a", "b", producer="p", seq=1)
    await target.append("e", producer="p", seq=5)
    assert await target.numbers() == [1, 2, 4]
    assert (await target.append("f", producer="p", seq=6)).n == 5


async def test_a_log_that_begins_after_a_flush_does_not_begin_with_one(target: Target) -> None:
    await target.append("a", "b", producer="p", seq=1)
    await target.line.command("DEL", *target.keys)
    await target.append("c", producer="p", seq=3)
    assert await target.numbers() == [2]


# Closing.


@pytest.mark.parametrize("ending", ["completed", "failed", "cancelled", "timed_out"])
async def test_the_ending_closes_the_log_and_stands_in_the_state(target: Target, ending: str) -> None:
    await target.append("execution.started", "a", producer="p", seq=1)
    reply = await target.append("b", f"execution.{ending}", producer="p", seq=3)
    terminal = f"{reply.ms}-{reply.n}".encode()
    assert await target.field("status") == ending.encode()
    assert await target.field("terminal") == terminal
    assert await target.field("ended") == str(reply.ms).encode()
    for producer, fence in (("p", ""), ("q", ""), ("", ""), ("", 99)):
        with pytest.raises(ReplyError, match=f"^CLOSED {terminal.decode()}$"):
            await target.append("late", producer=producer, seq=5, fence=fence)
    assert await target.numbers() == [1, 2, 3, 4]


async def test_of_many_endings_at_once_exactly_one_counts(target: Target) -> None:
    endings = ["execution.completed", "execution.failed", "execution.cancelled", "execution.timed_out"] * 25
    results = await asyncio.gather(
        *(target.append(ending, producer=f"p{i}", seq=1) for i, ending in enumerate(endings)), return_exceptions=True
    )
    assert sum(isinstance(result, Reply) for result in results) == 1
    assert all(isinstance(result, Reply) or "CLOSED" in str(result) for result in results)
    assert len(await target.ids()) == 1


@pytest.mark.parametrize(
    ("types", "status"),
    [
        (["execution.queued"], b"queued"),
        (["execution.queued", "execution.started"], b"running"),
        (["execution.started", "execution.paused", "token"], b"paused"),
        (["execution.paused", "execution.resumed"], b"running"),
        (["execution.started", "execution.retrying"], b"queued"),
        (["execution.started", "execution.retrying", "execution.started"], b"running"),
        (["execution.started", "execution.cancel_requested"], b"cancelling"),
        (["token", "executions.completed", "executioner"], None),
    ],
)
async def test_the_status_follows_the_life_cycle(target: Target, types: list[str], status: bytes | None) -> None:
    await target.append(*types)
    assert await target.field("status") == status
    assert await target.field("terminal") is None


async def test_created_and_started_are_noted_once(target: Target) -> None:
    first = await target.append("execution.queued")
    second = await target.append("execution.started")
    await asyncio.sleep(0.002)
    await target.append("execution.resumed")
    assert await target.field("created") == str(first.ms).encode()
    assert await target.field("started") == str(second.ms).encode()


async def test_the_ending_gives_the_lease_back(target: Target) -> None:
    await target.line.command("HSET", target.meta, "owner", "w1", "lease_until", 1, "fence", 3)
    await target.append("execution.completed", fence="3:s")
    assert await target.field("owner") is None
    assert await target.field("lease_until") is None


# The fence.


async def test_a_stale_fence_appends_nothing_and_a_current_one_does(target: Target) -> None:
    await target.line.command("HSET", target.meta, "fence", 10)
    for stale in (1, 9):
        with pytest.raises(ReplyError, match=r"^FENCED"):
            await target.append("a", fence=f"{stale}:s")
    await target.append("b", fence="10:s")
    await target.append("c")
    assert await target.types() == ["b", "c"]


async def test_a_fence_newer_than_the_state_shuts_the_older_owner_out(target: Target) -> None:
    """A failover may rewind the state to an owner that has long been replaced."""
    await target.line.command("HSET", target.meta, "fence", 1)
    await target.append("from the new owner", fence="2:new")
    with pytest.raises(ReplyError, match=r"^FENCED"):
        await target.append("from the old one", fence="1:old")


async def test_attack_08_of_two_owners_with_one_number_only_the_one_with_the_secret_appends(target: Target) -> None:
    """After a rewind, two may have been given the same fence."""
    await target.line.command("HSET", target.meta, "fence", 2, "secret", "new")
    await target.append("from the new owner", fence="2:new")
    for forged in ("2:old", "2:", "2", "3"):
        with pytest.raises(ReplyError, match=r"^FENCED"):
            await target.append("from another", fence=forged)
    assert await target.types() == ["from the new owner"]


async def test_a_fenced_owner_may_still_learn_that_its_batch_was_in_the_log(target: Target) -> None:
    await target.append("a", producer="p", seq=1, fence="1:s")
    await target.line.command("HSET", target.meta, "fence", 2)
    assert (await target.append("a", producer="p", seq=1, fence="1:s")).written == 0


# Bounds.


async def test_the_log_is_trimmed_to_about_its_most_entries(target: Target) -> None:
    for _ in range(40):
        await target.append(*["a"] * 50, max_entries=300)
    numbers = await target.numbers()
    # Redis drops whole nodes, of a hundred entries by default.
    assert 300 <= len(numbers) <= 450
    assert numbers == list(range(2001 - len(numbers), 2001))


@pytest.mark.parametrize(
    "sizes",
    [[1000] * 3000, [20_000] * 150, [100_000] * 40, [10] * 8000 + [60_000] * 40, [60_000] * 40 + [10] * 8000],
    ids=["even", "large", "huge", "small, then large", "large, then small"],
)
async def test_the_log_keeps_its_bound_in_memory_whatever_the_sizes(target: Target, sizes: list[int]) -> None:
    most = MB
    worst = 0
    for start in range(0, len(sizes), 10):
        batch = sizes[start : start + 10]
        arguments: list[bytes | str | int] = []
        for size in batch:
            arguments += [4, "t", "a", "d", b"x" * size]
        await APPEND.run(
            target.line, target.keys, "", 0, "", 1_000_000, most,
            LIVE_SECONDS, ENDED_SECONDS, ENDED_STATE_SECONDS, len(batch), "", *arguments,
        )  # fmt: skip
        if start % 50 == 0:
            worst = max(worst, int(await target.line.command("MEMORY", "USAGE", target.log, "SAMPLES", 0)))
    # Looked at once for every sixteenth; a batch in one entry's allocation may stand above it.
    assert worst <= most * 17 / 16 + 2 * max(sizes)
    numbers = await target.numbers()
    assert numbers == list(range(len(sizes) - len(numbers) + 1, len(sizes) + 1))
    if len(set(sizes)) == 1:
        # Trimming counts entries: where their sizes differ, more may go than must.
        assert sum(sizes[-len(numbers) :]) >= most / 2


async def test_an_event_larger_than_the_bound_is_still_the_last_entry(target: Target) -> None:
    await target.append("a")
    await target.append("b", data=b"x" * 100_000, max_bytes=65_536)
    assert await target.types() == ["b"]


async def test_strangers_entries_count_towards_the_bound_in_memory(target: Target) -> None:
    for _ in range(100):
        await target.line.command("XADD", target.log, "*", "t", "x", "d", b"x" * 20_000)
    for _ in range(10):
        await target.append("a", data=b"x" * 7000, max_bytes=MB)
    assert int(await target.line.command("MEMORY", "USAGE", target.log, "SAMPLES", 0)) <= MB * 17 / 16


# Time to live. Case 19: no path leaves a key without one.


async def test_case_19_every_append_sets_the_time_to_live_of_log_and_state(target: Target) -> None:
    paths: list[dict[str, Any]] = [{}, {"producer": "p", "seq": 1}, {"producer": "p", "seq": 2, "fence": "1:s"}]
    for options in paths:
        await target.append("a", **options)
        assert all(is_about(ttl, LIVE_SECONDS) for ttl in await target.ttls())
        await target.line.command("PERSIST", target.log)
        await target.line.command("EXPIRE", target.meta, 10)
    await target.append("b", "c")
    assert all(is_about(ttl, LIVE_SECONDS) for ttl in await target.ttls())


async def test_case_19_a_log_that_a_stranger_began_gets_its_time_to_live_with_our_first_append(target: Target) -> None:
    await target.line.command("XADD", target.log, "*", "t", "x")
    assert await target.line.command("TTL", target.log) == -1
    await target.append("a")
    assert all(is_about(ttl, LIVE_SECONDS) for ttl in await target.ttls())


async def test_case_19_after_the_ending_everything_goes_and_the_state_last(target: Target) -> None:
    await target.line.command("XADD", target.control, "*", "c", "cancel")
    await target.line.command("HSET", target.checkpoints, "step", "x")
    await target.append("a")
    await target.append("execution.completed")
    log, meta = await target.ttls()
    assert is_about(log, ENDED_SECONDS)
    assert is_about(meta, ENDED_STATE_SECONDS)
    assert is_about(await target.line.command("TTL", target.control), ENDED_SECONDS)
    assert is_about(await target.line.command("TTL", target.checkpoints), ENDED_STATE_SECONDS)


async def test_case_19_a_refused_append_leaves_no_key_behind(target: Target) -> None:
    await target.line.command("HSET", target.meta, "fence", 5, "x", 1)
    await target.line.command("EXPIRE", target.meta, 50)
    with pytest.raises(ReplyError):
        await target.append("a", fence="1:s")
    assert await target.line.command("EXISTS", target.log) == 0
    assert is_about(await target.line.command("TTL", target.meta), 50)


async def test_case_19_a_dropped_repetition_after_the_ending_does_not_lengthen_a_life(target: Target) -> None:
    await target.append("execution.completed", producer="p", seq=1)
    await target.append("execution.completed", producer="p", seq=1)
    assert is_about((await target.ttls())[0], ENDED_SECONDS)


# What else may stand there.


@pytest.mark.parametrize("which", ["log", "meta"])
async def test_a_key_of_another_type_is_refused_and_nothing_is_written(target: Target, which: str) -> None:
    key, other = (target.log, target.meta) if which == "log" else (target.meta, target.log)
    await target.line.command("SET", key, "a string", "EX", 100)
    with pytest.raises(ReplyError, match="WRONGTYPE"):
        await target.append("a", producer="p", seq=1)
    assert await target.line.command("GET", key) == b"a string"
    assert await target.line.command("EXISTS", other) == 0


async def test_a_script_that_the_server_forgot_is_loaded_again(fresh_server_line: SupervisedConnection) -> None:
    target = Target(fresh_server_line, Keys("t"))
    for seq in (1, 2):
        assert (await target.append("a", producer="p", seq=seq)).written == 1
        await fresh_server_line.command("SCRIPT", "FLUSH")
    assert await target.numbers() == [1, 2]


async def test_no_id_is_given_out_again_in_the_millisecond_in_which_the_log_was_flushed(
    target: Target, line: SupervisedConnection
) -> None:
    """A reader at the old 7 must not take a new 7 for it. In one transaction, so that all share a millisecond."""
    await target.append("custom.a")
    await line.command("DEL", *target.keys)

    def batch(seq: int) -> list[bytes | str | int]:
        events: list[bytes | str | int] = [4, "t", "custom.a", "d", b"1"] * 9
        limits = (100_000, 64 * MB, LIVE_SECONDS, ENDED_SECONDS, ENDED_STATE_SECONDS)
        return ["EVAL", APPEND.source, 4, *target.keys, "p", seq, "", *limits, 9, "", *events]

    await line.command("MULTI")
    for command in (batch(1), ["DEL", *target.keys], batch(10)):
        assert await line.command(*command) == b"QUEUED"
    (old_ms, old_n, _), _, (new_ms, new_n, _) = await line.command("EXEC")
    old = {(int(old_ms), int(old_n) - back) for back in range(9)}
    new = {(int(new_ms), int(new_n) - back) for back in range(9)}
    assert not old & new
    assert min(new) > max(old)


async def test_attack_18_no_append_shortens_the_time_to_live(target: Target) -> None:
    await target.append("execution.queued", producer="submit", seq=1)
    for key in target.keys:
        await target.line.command("EXPIRE", key, LIVE_SECONDS * 8)
    await target.append("execution.signal_requested", producer="control.1", seq=1)
    ttls = [int(await target.line.command("TTL", key)) for key in (target.log, target.meta, target.control)]
    assert all(is_about(ttl, LIVE_SECONDS * 8) for ttl in ttls)


async def test_attack_18_no_checkpoint_shortens_the_time_to_live(target: Target) -> None:
    script = Script.load("checkpoint")
    await target.append("execution.started", producer="w.1.body", seq=1, fence="1:s")
    for key in (target.log, target.meta):
        await target.line.command("EXPIRE", key, LIVE_SECONDS * 8)
    for field in ("a", "b"):
        await script.run(target.line, (target.meta, target.checkpoints), "1:s", LIVE_SECONDS, field, "x", 1000, "")
        assert is_about(int(await target.line.command("TTL", target.checkpoints)), LIVE_SECONDS * 8)
