"""What every Tail promises, whatever it is made of and wherever it runs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import cast

import pytest

from tailrace.bus.errors import BusClosedError
from tailrace.bus.model.cursor import START, Cursor
from tailrace.bus.model.reading import RawEntry
from tailrace.bus.tail.watch import Watch
from tests.conftest import ServerOfKind
from tests.contract.places import EVERYWHERE, ON_SERVERS, Backend, Mode, Place, open_place
from tests.contract.recorder import Recorder
from tests.servers import ServerKind

pytestmark = pytest.mark.anyio


@pytest.fixture(params=EVERYWHERE, ids="-".join)
async def place(request: pytest.FixtureRequest, server_of_kind: ServerOfKind, prefix: str) -> AsyncIterator[Place]:
    mode, backend = cast("tuple[Mode, Backend]", request.param)
    url = None if backend == "fakeredis" else server_of_kind(backend).url
    async with open_place(mode, url, prefix) as opened:
        yield opened


@pytest.fixture(params=ON_SERVERS, ids="-".join)
async def served_place(
    request: pytest.FixtureRequest, server_of_kind: ServerOfKind, prefix: str
) -> AsyncIterator[Place]:
    """For what fakeredis does not imitate: its blocking XREAD waits for ever on a key that is no stream."""
    mode, backend = cast("tuple[Mode, ServerKind]", request.param)
    async with open_place(mode, server_of_kind(backend).url, prefix) as opened:
        yield opened


async def test_what_stands_in_a_stream_and_what_comes_is_delivered_in_order(place: Place) -> None:
    await place.append("run", 3)
    recorder = Recorder()
    place.watch("run", recorder)
    await recorder.until(lambda r: len(r.cursors) == 3)
    for _ in range(50):
        await place.append("run")
    await recorder.until(lambda r: len(r.cursors) == 53)
    assert recorder.cursors == await place.ids("run")
    assert recorder.disturbances == []


async def test_a_run_that_does_not_exist_yet_is_seen_from_its_first_entry(place: Place) -> None:
    recorder = Recorder()
    place.watch("run", recorder)
    # So that the watch is there before the run is, in each implementation.
    other = Recorder()
    place.watch("other", other)
    await place.append("other")
    await other.until(lambda r: r.cursors != [])
    await place.append("run", 2)
    await recorder.until(lambda r: len(r.cursors) == 2)
    assert recorder.numbers == [1, 2]


async def test_only_what_follows_the_cursor_is_delivered(place: Place) -> None:
    cursor = await place.append("run", 10)
    recorder = Recorder()
    place.watch("run", recorder, Cursor(cursor.ms, 4))
    await recorder.until(lambda r: len(r.cursors) == 6)
    await place.append("run")
    await recorder.until(lambda r: len(r.cursors) == 7)
    assert recorder.numbers == [5, 6, 7, 8, 9, 10, 11]


async def test_entries_of_strangers_are_delivered_as_they_come(place: Place) -> None:
    recorder = Recorder()
    place.watch("run", recorder)
    for _ in range(5):
        await place.plain_xadd("run")
        await place.append("run")
    await recorder.until(lambda r: len(r.cursors) == 10)
    assert recorder.cursors == await place.ids("run")


async def test_two_watches_of_one_stream_have_a_cursor_each(place: Place) -> None:
    cursor = await place.append("run", 5)
    whole, rest = Recorder(), Recorder()
    place.watch("run", whole)
    place.watch("run", rest, cursor)
    await whole.until(lambda r: len(r.cursors) == 5)
    await place.append("run", 2)
    await whole.until(lambda r: len(r.cursors) == 7)
    await rest.until(lambda r: len(r.cursors) == 2)
    assert whole.numbers == [1, 2, 3, 4, 5, 6, 7]
    assert rest.numbers == [6, 7]


async def test_three_hundred_streams_are_watched_at_once(place: Place) -> None:
    runs = [f"run{i}" for i in range(300)]
    recorders = [Recorder() for _ in runs]
    for run, recorder in zip(runs, recorders, strict=True):
        place.watch(run, recorder)
    for turn in range(1, 4):
        await asyncio.gather(*(place.append(run) for run in runs))
        for recorder in recorders:
            await recorder.until(lambda r, turn=turn: len(r.cursors) == turn)  # type: ignore[misc]
    assert all(recorder.numbers == [1, 2, 3] for recorder in recorders)


async def test_a_large_backlog_comes_in_pages_and_whole(place: Place) -> None:
    for _ in range(5):
        await place.append("run", 1000)
    recorder = Recorder()
    place.watch("run", recorder)
    await recorder.until(lambda r: len(r.cursors) == 5000)
    assert recorder.numbers == list(range(1, 5001))
    assert max(recorder.batches) <= 512


async def test_a_backlog_does_not_hold_up_a_quiet_run(place: Place) -> None:
    for _ in range(20):
        await place.append("busy", 1000)
    busy, quiet = Recorder(), Recorder()
    place.watch("busy", busy)
    place.watch("quiet", quiet)
    await busy.until(lambda r: len(r.cursors) > 0)
    await place.append("quiet")
    await quiet.until(lambda r: r.cursors != [])
    assert len(busy.cursors) < 20_000
    await busy.until(lambda r: len(r.cursors) == 20_000)


async def test_a_suspended_watch_is_told_nothing_and_goes_on_where_it_is_resumed(place: Place) -> None:
    first = await place.append("run")
    suspended, other = Recorder(), Recorder()
    watch = place.watch("run", suspended)
    place.watch("run", other)
    await suspended.until(lambda r: r.cursors == [first])
    watch.suspend()
    second = await place.append("run", 3)
    await other.until(lambda r: r.cursors[-1:] == [second])
    assert suspended.cursors == [first]
    watch.resume(Cursor(second.ms, 3))
    await suspended.until(lambda r: r.last == second)
    assert suspended.numbers == [1, 4]
    watch.suspend()
    watch.resume(START)
    await suspended.until(lambda r: len(r.cursors) == 6)
    assert suspended.numbers == [1, 4, 1, 2, 3, 4]


class Prover:
    """Reads for itself from time to time and resumes the watch behind it, as a subscription does."""

    def __init__(self, place: Place, run: str) -> None:
        self.place = place
        self.run = run
        self.cursors: list[Cursor] = []
        self.watch: Watch = place.tail.watch(place.keys.log(run), START, self)

    def deliver(self, entries: Sequence[RawEntry]) -> None:
        self._take(entries)

    def disturbed(self, reason: str) -> None:
        raise AssertionError(reason)

    async def prove(self) -> None:
        self.watch.suspend()
        at = self.cursors[-1] if self.cursors else START
        raw = await self.place.commands.command("XRANGE", self.place.keys.log(self.run), f"({at}", "+")
        self._take(raw)
        self.watch.resume(self.cursors[-1] if self.cursors else START)

    def _take(self, entries: Sequence[RawEntry]) -> None:
        self.cursors += [Cursor(*map(int, entry_id.split(b"-"))) for entry_id, _ in entries]


async def test_nothing_comes_twice_when_a_watch_is_resumed_while_it_is_being_read(place: Place) -> None:
    """The reply to an earlier cursor may still be under way: it must not be taken for what follows the new one."""
    provers = [Prover(place, f"run{i}") for i in range(5)]
    chance = random.Random(5)

    async def write() -> None:
        for _ in range(100):
            await asyncio.gather(*(place.append(prover.run, chance.randint(1, 20)) for prover in provers))

    async def disturb(prover: Prover) -> None:
        while not writing.done():
            await prover.prove()
            await asyncio.sleep(chance.random() * 0.002)

    writing = asyncio.create_task(write())
    await asyncio.gather(writing, *map(disturb, provers))
    for prover in provers:
        await prover.prove()
        assert prover.cursors == await place.ids(prover.run)


async def test_a_closed_watch_is_told_nothing_more(place: Place) -> None:
    closed, other = Recorder(), Recorder()
    watch = place.watch("run", closed)
    place.watch("run", other)
    await place.append("run")
    await closed.until(lambda r: len(r.cursors) == 1)
    await other.until(lambda r: len(r.cursors) == 1)
    watch.close()
    watch.close()
    await place.append("run")
    await other.until(lambda r: len(r.cursors) == 2)
    assert len(closed.cursors) == 1


async def test_a_stream_can_be_watched_again_after_its_last_watch_was_closed(place: Place) -> None:
    for turn in range(1, 6):
        recorder = Recorder()
        watch = place.watch("run", recorder)
        await place.append("run")
        await recorder.until(lambda r, turn=turn: len(r.cursors) == turn)  # type: ignore[misc]
        watch.close()
        await place.append("other run")
    assert recorder.numbers == [1, 2, 3, 4, 5]


async def test_a_deleted_stream_that_is_written_again_goes_on_with_its_new_entries(place: Place) -> None:
    recorder = Recorder()
    place.watch("run", recorder)
    await place.append("run", 3)
    await recorder.until(lambda r: len(r.cursors) == 3)
    await place.commands.command("DEL", *place.keys.of_execution("run"))
    await asyncio.sleep(0.002)
    await place.append("run", 2)
    await recorder.until(lambda r: len(r.cursors) == 5)
    assert recorder.numbers == [1, 2, 3, 1, 2]


async def test_a_key_that_is_no_stream_stops_nobody_else(served_place: Place) -> None:
    await served_place.commands.command("SET", served_place.keys.log("broken"), "a string")
    broken, good = Recorder(), Recorder()
    watches = [served_place.watch("broken", broken)]
    watches.append(served_place.watch("good", good))
    good.resume = lambda: watches[1].resume(good.last if good.cursors else START)
    await broken.until(lambda r: r.disturbances != [])
    assert "WRONGTYPE" in broken.disturbances[0]
    for _ in range(3):
        await served_place.append("good")
    await good.until(lambda r: len(r.cursors) == 3)
    assert good.numbers == [1, 2, 3]


async def test_a_stream_that_becomes_something_else_disturbs_those_who_watch_it(served_place: Place) -> None:
    recorder = Recorder()
    watch = served_place.watch("run", recorder)
    await served_place.append("run")
    await recorder.until(lambda r: len(r.cursors) == 1)
    await served_place.commands.command("SET", served_place.keys.log("run"), "a string")
    watch.resume(recorder.last)
    await recorder.until(lambda r: r.disturbances != [])
    assert "WRONGTYPE" in recorder.disturbances[0]


class Failing(Recorder):
    def deliver(self, entries: Sequence[RawEntry]) -> None:
        super().deliver(entries)
        raise ValueError("a bug in a listener")


async def test_a_listener_that_fails_is_disturbed_and_hurts_nobody_else(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    failing, good = Failing(), Recorder()
    place.watch("run", failing)
    place.watch("other", good)
    await place.append("run")
    await failing.until(lambda r: r.disturbances == ["listener failed"])
    await place.append("other")
    await good.until(lambda r: len(r.cursors) == 1)
    assert place.counters["tail_listener_errors"] == 1
    assert "a bug in a listener" in caplog.text


async def test_closing_the_tail_tells_everybody_and_refuses_further_watches(place: Place) -> None:
    recorders = [Recorder() for _ in range(3)]
    for i, recorder in enumerate(recorders):
        place.watch(f"run{i}", recorder)
    await place.tail.aclose()
    assert [recorder.disturbances for recorder in recorders] == [["closed"]] * 3
    with pytest.raises(BusClosedError):
        place.watch("run", Recorder())
    await place.tail.aclose()
    assert recorders[0].disturbances == ["closed"]
