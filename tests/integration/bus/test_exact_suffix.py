"""G1 and G2 under load: readers that are cut and come back, readers slower than retention, strangers in between."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing

import pytest

from tailrace.bus import START, Bus, Cursor, Entry, Gap, Retention
from tailrace.bus.log.log import Log
from tailrace.bus.log.publisher import Publisher
from tailrace.bus.model.cursor import from_id
from tests.integration.bus.follower import Follower
from tests.patience import patient

pytestmark = pytest.mark.anyio


async def read_in_pieces(bus: Bus, run: str, chance: random.Random) -> list[Entry | Gap]:
    """Follow to the end, leaving at random and coming back with nothing but the last cursor."""
    items: list[Entry | Gap] = []
    cursor = START
    while True:
        async with aclosing(bus.follow(run, str(cursor))) as following:
            left = chance.randint(1, 150)
            async for item in following:
                items.append(item)
                if isinstance(item, Entry):
                    cursor = item.cursor
                    if item.is_terminal:
                        return items
                left -= 1
                if not left:
                    break
        await asyncio.sleep(chance.random() * 0.01)


async def test_what_readers_got_over_all_their_visits_put_together_is_the_log(tailing_bus: Bus) -> None:
    chance = random.Random(11)
    runs = [f"run{i}" for i in range(6)]

    async def write(run: str) -> None:
        publisher = tailing_bus.publisher(run)
        for number in range(600):
            await publisher.emit("a", number)
            if number % 50 == 0:
                await tailing_bus.commands.command("XADD", tailing_bus.keys.log(run), "*", "t", "foreign", "d", "1")
            if number % 9 == 0:
                await asyncio.sleep(chance.random() * 0.003)
        await publisher.append("execution.completed")
        await publisher.aclose()

    readers = [asyncio.create_task(read_in_pieces(tailing_bus, run, chance)) for run in runs for _ in range(5)]
    await asyncio.gather(*map(write, runs))
    async with asyncio.timeout(patient(30)):
        results = await asyncio.gather(*readers)
    for run, results_of_run in zip(runs, _fives(results), strict=True):
        raw = await tailing_bus.commands.command("XRANGE", tailing_bus.keys.log(run), "-", "+")
        log = [from_id(entry_id) for entry_id, _ in raw]
        for items in results_of_run:
            assert [item for item in items if isinstance(item, Gap)] == []
            assert [item.cursor for item in items if isinstance(item, Entry)] == log


async def test_readers_slower_than_retention_are_told_of_every_loss_and_of_no_other(tailing_bus: Bus) -> None:
    bounded = Log(
        tailing_bus.commands, tailing_bus.keys, counters=tailing_bus.counters, retention=Retention(max_entries=200)
    )
    publisher = Publisher(bounded, "run", producer="p")
    readers = [Follower(tailing_bus, "run", delay_seconds=delay) for delay in (0.0, 0.0002, 0.002)]
    stalled = tailing_bus.follow("run")
    await publisher.append("a", 0)
    seen = [await anext(stalled)]
    for number in range(1, 1500):
        await publisher.emit("a", number)
        if number % 20 == 0:
            await asyncio.sleep(0.002)
    await publisher.append("execution.completed")
    await publisher.aclose()
    seen += [item async for item in stalled]
    assert any(isinstance(item, Gap) for item in seen)
    for reader in readers:
        await reader.end(seconds=30)
    for items in (seen, *(reader.items for reader in readers)):
        previous = -1
        told = False
        for item in items:
            if isinstance(item, Gap):
                assert not told, "two gaps in a row"
                told = True
            elif item.type == "a":
                assert item.data > previous
                assert told == (item.data != previous + 1), (previous, item.data)
                previous, told = item.data, False
        assert isinstance(items[-1], Entry)
        assert items[-1].type == "execution.completed"


def _fives(results: list[list[Entry | Gap]]) -> list[list[list[Entry | Gap]]]:
    return [results[start : start + 5] for start in range(0, len(results), 5)]


async def test_a_cursor_never_leads_back_to_what_was_seen(tailing_bus: Bus) -> None:
    """Every cursor of the log, and every one between and around them, while the log is trimmed beneath."""
    publisher = tailing_bus.publisher("run")
    for number in range(300):
        await publisher.emit("a", number)
    await publisher.append("execution.completed")
    await publisher.aclose()
    raw = await tailing_bus.commands.command("XRANGE", tailing_bus.keys.log("run"), "-", "+")
    cursors = [from_id(entry_id) for entry_id, _ in raw][::23]
    cursors += [Cursor(cursor.ms - 1, cursor.n) for cursor in cursors] + [Cursor(c.ms, c.n + 5000) for c in cursors]
    await tailing_bus.commands.command("XTRIM", tailing_bus.keys.log("run"), "MAXLEN", 150)
    for cursor in cursors:
        async with Follower(tailing_bus, "run", cursor) as follower:
            await follower.end()
        assert all(entry.cursor > cursor for entry in follower.entries)
        assert [entry.cursor.n for entry in follower.entries] == list(range(302 - len(follower.entries), 302))
