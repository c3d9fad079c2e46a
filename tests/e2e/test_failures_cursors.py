"""Cursors that mean nothing here, or too little: each test is named after the failure case of others' systems."""

from __future__ import annotations

import asyncio
import contextlib
import random

import httpx
import pytest

from tailrace.bus import Bus, BusSettings, open_bus
from tests.e2e.logs import (
    append_events,
    controls_of,
    emit_events,
    ids_of,
    log_ids,
    names_of,
)
from tests.e2e.runs import end, watch_to_the_end
from tests.e2e.sse_client import ConnectionBrokenError, open_stream
from tests.e2e.sse_frames import Frame
from tests.patience import patient

pytestmark = pytest.mark.anyio


# 1 · deer-flow 4413


async def test_case_01_a_trimmed_cursor_is_told_one_gap_before_what_is_left_and_the_run_goes_on(
    bus: Bus, gateway_url: str, run: str
) -> None:
    ids = await append_events(bus, run, 50)
    await bus.commands.command("XTRIM", bus.keys.log(run), "MAXLEN", 10)
    async with open_stream(gateway_url, run, after=ids[4]) as stream:
        replayed = await stream.until("stream.caught_up")
        later = await append_events(bus, run, 5, first=50)
        live = await stream.until_true(lambda frame: frame.id == later[-1])
    assert names_of(replayed)[:3] == ["stream.open", "stream.gap", "custom.counted"]
    assert len(controls_of([*replayed, *live], "stream.gap")) == 1
    assert replayed[1].id is None
    assert replayed[1].payload == {
        "execution_id": run,
        "requested": ids[4],
        "earliest": ids[40],
        "latest": ids[49],
        "reason": "trimmed",
    }
    assert ids_of(replayed) + ids_of(live) == ids[40:] + later[-5:]


async def test_case_01_a_log_trimmed_by_its_own_bound_says_so_to_who_comes_from_the_start(
    server_url: str, module_prefix: str, gateway_url: str, run: str
) -> None:
    settings = BusSettings(prefix=module_prefix, max_entries=100)
    async with await open_bus(server_url, settings=settings) as bounded:
        await append_events(bounded, run, 2000)
        await end(bounded, run)
        ids = await log_ids(bounded, run)
    assert len(ids) < 2001
    frames = await watch_to_the_end(gateway_url, run)
    assert names_of(frames)[:2] == ["stream.open", "stream.gap"]
    assert (frames[1].payload["reason"], frames[1].payload["earliest"]) == ("trimmed", ids[0])
    assert ids_of(frames) == ids


async def test_case_01_a_cursor_whose_successor_is_the_first_entry_left_has_lost_nothing(
    bus: Bus, gateway_url: str, run: str
) -> None:
    ids = await append_events(bus, run, 50)
    await bus.commands.command("XTRIM", bus.keys.log(run), "MAXLEN", 10)
    await end(bus, run)
    frames = await watch_to_the_end(gateway_url, run, after=ids[39])
    assert controls_of(frames, "stream.gap") == []
    assert ids_of(frames)[:-1] == ids[40:]


# 2 · deer-flow


async def test_case_02_a_cursor_ahead_of_the_log_is_a_gap_at_once_and_new_events_come(
    bus: Bus, gateway_url: str, run: str
) -> None:
    ids = await append_events(bus, run, 5)
    ahead = f"{int(ids[-1].split('-')[0]) + 3_600_000}-400"
    async with open_stream(gateway_url, run, after=ahead) as stream:
        first = await stream.until("stream.caught_up", seconds=5)
        later = await append_events(bus, run, 3, first=5)
        live = await stream.until_true(lambda frame: frame.id == later[-1], seconds=5)
    gap = {"execution_id": run, "requested": ahead, "earliest": ids[0], "latest": ids[-1], "reason": "rewound"}
    assert [frame.payload for frame in controls_of([*first, *live], "stream.gap")] == [gap]
    assert ids_of([*first, *live]) == later[5:]


async def test_case_02_a_viewer_of_a_run_that_was_deleted_and_written_anew_is_told_and_sees_the_new_one(
    bus: Bus, gateway_url: str, run: str
) -> None:
    old = await append_events(bus, run, 30)
    async with open_stream(gateway_url, run) as stream:
        await stream.until("stream.caught_up")
        await bus.commands.command("DEL", *bus.keys.of_execution(run))
        # What is not there any more is known before it is there again.
        gone = await stream.until("stream.gap")
        new = await append_events(bus, run, 3)
        await end(bus, run)
        frames = await stream.rest()
    assert ids_of(gone) == []
    assert ids_of(frames)[:-1] == new
    assert names_of(frames)[-1] == "stream.end"
    back = await watch_to_the_end(gateway_url, run, after=old[-1])
    assert names_of(back)[:2] == ["stream.open", "stream.gap"]


async def test_case_02_a_run_that_ended_and_is_written_anew_under_its_id_is_not_taken_as_ended(
    bus: Bus, gateway_url: str, run: str
) -> None:
    await append_events(bus, run, 3)
    await end(bus, run)
    assert names_of(await watch_to_the_end(gateway_url, run))[-1] == "stream.end"
    await bus.commands.command("DEL", *bus.keys.of_execution(run))
    new = await append_events(bus, run, 3)
    async with open_stream(gateway_url, run, after=new[0]) as stream:
        await stream.until_true(lambda frame: frame.id == new[-1], seconds=5)
        last = await append_events(bus, run, 1, first=3)
        await stream.until_true(lambda frame: frame.id == last[-1], seconds=5)


# 3 · deer-flow 4011


@pytest.mark.parametrize("spelling", ["-1", "0", "0-0", "", " 0 "])
@pytest.mark.parametrize("ended", [True, False], ids=["ended", "live"])
async def test_case_03_what_means_nothing_yet_is_the_start(
    bus: Bus, gateway_url: str, run: str, spelling: str, ended: bool
) -> None:
    ids = await append_events(bus, run, 5)
    if ended:
        ids.append(await end(bus, run))
    async with open_stream(gateway_url, run, after=spelling) as stream:
        frames = await stream.until("stream.end" if ended else "stream.caught_up", seconds=5)
    assert ids_of(frames) == ids
    assert controls_of(frames, "stream.gap") == []


NOT_A_CURSOR = [
    "$",
    "-",
    "+",
    "*",
    "abc",
    "1",
    "-2",
    "1-",
    "-1-1",
    "1-1-1",
    "01-1",
    "1-1 ",
    "1 -1",
    "1.5-1",
    "1e3-1",
    "18446744073709551616-0",
    "0-18446744073709551616",
    "99999999999999999999-99999999999999999999",
    "9" * 5000,
    "(1-1",
    "٣-٤",
    "1-1\t2",
    "undefined",
    "null",
    "NaN",
]


@pytest.mark.parametrize("where", ["header", "query"])
async def test_case_03_whatever_is_no_cursor_is_a_400_that_names_it(
    bus: Bus, gateway_url: str, run: str, where: str
) -> None:
    await append_events(bus, run, 1)
    async with httpx.AsyncClient(base_url=gateway_url, timeout=patient(5)) as client:
        for text in NOT_A_CURSOR:
            if where == "header" and text != text.strip():
                continue
            answer = await client.get(
                f"/v1/executions/{run}/events",
                headers=[(b"Last-Event-ID", text.encode())] if where == "header" else None,
                params={"from": text} if where == "query" else {},
            )
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor"), text
            assert answer.json()["field"] == ("Last-Event-ID" if where == "header" else "from")
            assert len(answer.content) < 1000


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "live"])
@pytest.mark.parametrize(
    "cursor",
    ["18446744073709551615-18446744073709551615", "18446744073709551615-0", "1-1", "0-1", "0-18446744073709551615"],
)
async def test_case_03_a_cursor_that_was_never_here_is_a_gap_and_never_a_hang(
    bus: Bus, gateway_url: str, run: str, cursor: str, ended: bool
) -> None:
    ids = await append_events(bus, run, 5)
    if ended:
        ids.append(await end(bus, run))
    async with open_stream(gateway_url, run, after=cursor) as stream:
        frames = await stream.until("stream.end" if ended else "stream.caught_up", seconds=5)
    assert names_of(frames)[:2] == ["stream.open", "stream.gap"]
    assert len(controls_of(frames, "stream.gap")) == 1
    behind = int(cursor.split("-", maxsplit=1)[0]) > 1
    assert ids_of(frames) == ([] if behind else ids)
    if ended:
        # Where it stands now it is known to be through, else an EventSource would come back for ever.
        last = next(frame.id for frame in reversed(frames) if frame.id is not None)
        async with open_stream(gateway_url, run, after=last) as again:
            assert again.status == 204


async def test_case_03_an_endless_header_is_refused_and_hurts_nobody(bus: Bus, gateway_url: str, run: str) -> None:
    await append_events(bus, run, 1)
    with contextlib.suppress(ConnectionBrokenError):
        async with asyncio.timeout(patient(5)), open_stream(gateway_url, run, after="1" * 1_000_000) as stream:
            assert 400 <= stream.status < 500
    async with open_stream(gateway_url, run) as stream:
        await stream.until("stream.caught_up", seconds=5)


# 4 · scale-agentex 241


async def test_case_04_tail_is_resolved_once_so_that_nothing_falls_between(
    bus: Bus, gateway_url: str, run: str
) -> None:
    await append_events(bus, run, 10)
    begun = asyncio.Event()

    async def publish() -> None:
        publisher = bus.publisher(run)
        for k in range(4000):
            await publisher.emit("custom.counted", {"k": k})
            if k % 20 == 0:
                await publisher.flush()
                begun.set()
        await publisher.append("execution.completed")
        await publisher.aclose()

    async with asyncio.TaskGroup() as group:
        group.create_task(publish())
        await begun.wait()
        watching = []
        for _ in range(25):
            watching.append(group.create_task(watch_to_the_end(gateway_url, run, **{"from": "tail"})))
            await asyncio.sleep(0.005)
    ids = await log_ids(bus, run)
    starts = set()
    for watch in watching:
        frames = watch.result()
        start = frames[0].payload["cursor"]
        starts.add(start)
        # What it comes back with should nothing happen.
        assert (frames[0].name, frames[0].id) == ("stream.open", start)
        assert ids_of(frames) == ids[ids.index(start) + 1 :]
    assert len(starts) > 1, "all of them came at the same moment"


async def test_case_04_latest_of_a_log_that_is_not_there_yet_is_its_start(bus: Bus, gateway_url: str, run: str) -> None:
    await bus.leases.take(run, "somebody")
    async with open_stream(gateway_url, run, query={"from": "tail"}) as stream:
        await stream.until("stream.caught_up", seconds=5)
        ids = await append_events(bus, run, 3)
        frames = await stream.until_true(lambda frame: frame.id == ids[-1], seconds=5)
    assert ids_of(frames) == ids


# 5 · LibreChat 11710


async def test_case_05_who_joins_in_the_middle_of_a_storm_gets_the_head_and_all_that_follows(
    bus: Bus, gateway_url: str, run: str
) -> None:
    chance = random.Random(5)
    await append_events(bus, run, 1)

    async def join() -> list[Frame]:
        await asyncio.sleep(chance.uniform(0, 0.8))
        return await watch_to_the_end(gateway_url, run)

    async with asyncio.TaskGroup() as group:
        watching = [group.create_task(join()) for _ in range(40)]
        publisher = bus.publisher(run)
        for burst in range(100):
            await emit_events(publisher, 50, first=burst * 50)
            await publisher.flush()
            await asyncio.sleep(0.01)
        await publisher.append("execution.completed")
        await publisher.aclose()
    ids = await log_ids(bus, run)
    for watch in watching:
        assert ids_of(watch.result()) == ids
        assert controls_of(watch.result(), "stream.gap") == []


async def test_case_05_a_page_that_others_read_before_a_burst_does_not_end_a_later_replay_early(
    bus: Bus, gateway_url: str, run: str
) -> None:
    await append_events(bus, run, 10)
    async with open_stream(gateway_url, run) as early:
        await early.until("stream.caught_up")
        # More than a gateway keeps in memory.
        ids = await append_events(bus, run, 3000, first=10)
        await early.until_true(lambda frame: frame.id == ids[-1])
        async with open_stream(gateway_url, run) as late:
            frames = await late.until_true(lambda frame: frame.id == ids[-1], seconds=5)
            caught_up = await late.until("stream.caught_up", seconds=5)
    assert ids_of(frames) == ids
    assert names_of(caught_up) == ["stream.caught_up"]
