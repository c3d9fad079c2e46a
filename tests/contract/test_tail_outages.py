"""What every Tail promises when its server is flushed, restarted, silent, or refuses CLIENT TRACKING."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import cast

import pytest

from tailrace.bus.deployment import Standalone
from tailrace.bus.errors import ReplyError
from tailrace.bus.log.log import Log
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.cursor import START
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.retention import Retention
from tailrace.bus.redis.address import dial_of
from tailrace.bus.tail.watch import Watch
from tests.contract.places import ON_SERVERS, Mode, Place, open_place
from tests.contract.recorder import Recorder
from tests.servers import RunningServer, ServerKind, spawn_server

pytestmark = pytest.mark.anyio

FOUND_WITHIN_SECONDS = 9.5


@pytest.fixture(params=["valkey", "redis"])
def own_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningServer]:
    """A server of the test's own, of each kind in turn."""
    with spawn_server(request.param, directory=tmp_path, appendonly=True) as server:
        yield server


@pytest.fixture(params=["tracking", "blocking"])
async def place(request: pytest.FixtureRequest, own_server: RunningServer) -> AsyncIterator[Place]:
    async with open_place(request.param, own_server.url, "t") as opened:
        yield opened


def resuming(place: Place, run: str) -> tuple[Recorder, Watch]:
    """A listener that trusts its last cursor: enough where nothing is lost."""
    recorder = Recorder()
    watch = place.watch(run, recorder)
    recorder.resume = lambda: watch.resume(recorder.last if recorder.cursors else START)
    return recorder, watch


async def test_a_restarted_server_disturbs_all_and_the_tail_goes_on(place: Place, own_server: RunningServer) -> None:
    recorders = [resuming(place, f"run{i}")[0] for i in range(3)]
    for i in range(3):
        await place.append(f"run{i}")
    for recorder in recorders:
        await recorder.until(lambda r: len(r.cursors) == 1)
    await asyncio.to_thread(own_server.restart)
    for recorder in recorders:
        await recorder.until(lambda r: r.disturbances != [])
    for i in range(3):
        while True:
            try:
                await place.append(f"run{i}")
                break
            except ReplyError:
                raise
            except Exception:  # noqa: BLE001 - not connected again yet
                await asyncio.sleep(0.05)
    for recorder in recorders:
        await recorder.until(lambda r: len(r.cursors) == 2)
        assert recorder.numbers == [1, 2]


async def test_a_connection_that_is_killed_disturbs_all_and_is_made_again(place: Place) -> None:
    recorder, _ = resuming(place, "run")
    await place.append("run")
    await recorder.until(lambda r: len(r.cursors) == 1)
    for _ in range(3):
        told = len(recorder.disturbances)
        await place.commands.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await recorder.until(lambda r, told=told: len(r.disturbances) > told)  # type: ignore[misc]
        seen = len(recorder.cursors)
        await place.append("run")
        await recorder.until(lambda r, seen=seen: len(r.cursors) == seen + 1)  # type: ignore[misc]
    assert recorder.numbers == [1, 2, 3, 4]


async def test_attack_16_each_way_of_watching_counts_that_it_connected_again(place: Place) -> None:
    recorder, _ = resuming(place, "run")
    await place.append("run")
    await recorder.until(lambda r: len(r.cursors) == 1)
    assert place.counters["tail_reconnects"] == 0
    await place.commands.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await recorder.until(lambda r: len(r.disturbances) == 1)
    assert place.counters["tail_reconnects"] >= 1


async def test_a_flush_disturbs_all_whom_tracking_tells_of_it(own_server: RunningServer) -> None:
    """A blocked XREAD is not told: there the numbering, or the silence, makes a subscription look again."""
    async with open_place("tracking", own_server.url, "t") as place:
        watched, waiting = Recorder(), Recorder()
        place.watch("run", watched)
        place.watch("not there yet", waiting)
        await place.append("run")
        await watched.until(lambda r: len(r.cursors) == 1)
        for times, flush in enumerate(("FLUSHALL", "FLUSHDB"), start=1):
            await place.commands.command(flush)
            await watched.until(lambda r, times=times: r.disturbances == ["flushed"] * times)  # type: ignore[misc]
            await waiting.until(lambda r, times=times: r.disturbances == ["flushed"] * times)  # type: ignore[misc]
        assert place.counters["tail_flushes"] == 2


async def test_a_key_that_vanishes_wakes_whom_tracking_tells_of_it(own_server: RunningServer) -> None:
    """Told as a change with nothing new; an arming reading with nothing new is told to nobody."""
    async with open_place("tracking", own_server.url, "t") as place:
        recorder = Recorder()
        place.watch("run", recorder)
        other = Recorder()
        place.watch("other", other)
        await place.append("run")
        await recorder.until(lambda r: r.batches == [1])
        await place.append("other")
        await other.until(lambda r: r.batches == [1])
        for action in (("DEL", place.keys.log("run")), ("PING",)):
            await place.commands.command(*action)
        await recorder.until(lambda r: r.batches == [1, 0])
        await place.append("other")
        await other.until(lambda r: len(r.cursors) == 2)
        assert recorder.batches == [1, 0]


async def test_an_idle_stream_costs_no_commands(own_server: RunningServer) -> None:
    async with open_place("tracking", own_server.url, "t") as place:
        for i in range(20):
            place.watch(f"run{i}", Recorder())
        last = Recorder()
        place.watch("last", last)
        await place.append("last")
        await last.until(lambda r: len(r.cursors) == 1)

        async def reads() -> int:
            stats = await place.commands.command("INFO", "commandstats")
            text = (stats if isinstance(stats, bytes) else str(stats).encode()).decode()
            found = re.search(r"cmdstat_xread:calls=(\d+)", text)
            return int(found[1]) if found else 0

        before = await reads()
        await asyncio.sleep(0.3)
        assert await reads() == before


@pytest.mark.slow
async def test_case_22_a_half_open_connection_is_found_in_seconds_and_made_again(tmp_path: Path) -> None:
    """All implementations at once: each waits for the same silence."""

    async def one(place: Place, server: RunningServer) -> None:
        recorder, _ = resuming(place, "run")
        await place.append("run")
        await recorder.until(lambda r: len(r.cursors) == 1)
        server.pause()
        # An idle connection is asked after two to three seconds, and given up five to six seconds later.
        await asyncio.sleep(FOUND_WITHIN_SECONDS)
        server.resume()
        await recorder.until(lambda r: "reconnected" in r.disturbances, seconds=10)
        # The writing line was cut off by the same silence, and comes back by itself.
        await place.commands.command("PING")
        await place.append("run")
        await recorder.until(lambda r: len(r.cursors) == 2)
        assert recorder.numbers == [1, 2]

    with ExitStack() as servers:
        async with AsyncExitStack() as places:
            tasks = []
            for mode, kind in cast("list[tuple[Mode, ServerKind]]", ON_SERVERS):
                directory = tmp_path / f"{mode}-{kind}"
                directory.mkdir()
                server = servers.enter_context(spawn_server(kind, directory=directory))
                place = await places.enter_async_context(open_place(mode, server.url, "t"))
                tasks.append(one(place, server))
            await asyncio.gather(*tasks)


async def test_the_fallback_is_chosen_by_itself_where_tracking_is_refused_and_says_so(
    own_server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_place("tracking", own_server.url, "t") as place:
        await place.commands.command(
            "ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all", "-client|tracking"
        )
    counters = Counters()
    deployment = Standalone(dial_of(own_server.url.replace("unix://", "unix://limited:secret@")), counters)
    commands = await deployment.open_line("redis")
    tail = await deployment.open_tail(commands, "auto")
    limited = Place(tail, commands, Keys("t"), counters)
    try:
        assert tail.mode == "blocking"
        assert counters["tail_fallbacks"] == 1
        assert "CLIENT TRACKING refused" in caplog.text
        recorder = Recorder()
        limited.watch("run", recorder)
        await Log(commands, Keys("t"), counters=counters, retention=Retention()).append("run", [[b"t", b"a"]])
        await recorder.until(lambda r: len(r.cursors) == 1)
        with pytest.raises(ReplyError, match="NOPERM"):
            await deployment.open_tail(commands, "tracking")
    finally:
        await tail.aclose()
        await commands.aclose()


async def test_tracking_that_is_refused_later_is_told_and_tried_again(
    own_server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Without tracking a new connection would look well and never hear anything."""
    async with open_place("tracking", own_server.url, "t") as admin:
        await admin.commands.command("ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all")
        async with open_place("tracking", own_server.url.replace("unix://", "unix://limited:secret@"), "t") as place:
            recorder, _ = resuming(place, "run")
            await place.append("run")
            await recorder.until(lambda r: len(r.cursors) == 1)
            await admin.commands.command("ACL", "SETUSER", "limited", "-client|tracking")
            await admin.commands.command("CLIENT", "KILL", "USER", "limited")
            await recorder.until(lambda r: len(r.disturbances) >= 2)
            assert place.counters["tail_tracking_refused"] >= 1
            assert "CLIENT TRACKING refused" in caplog.text
            await admin.commands.command("ACL", "SETUSER", "limited", "+client|tracking")
            await admin.append("run")
            await recorder.until(lambda r: len(r.cursors) == 2)
