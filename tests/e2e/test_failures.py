"""What broke in others' systems, as a viewer would see it here: each test is named after its failure case."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from bus import Bus, BusSettings, EventTooLargeError, open_bus
from tests.e2e.logs import (
    append_events,
    controls_of,
    emit_events,
    ids_of,
    log_data,
    log_ids,
    names_of,
)
from tests.e2e.publishing import Order, PublisherProcess
from tests.e2e.sse_client import ConnectionBrokenError, open_stream
from tests.e2e.sse_frames import Frame
from tests.e2e.waiting import eventually
from tests.integration.gateway.live import GatewayProcess
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio


async def end(bus: Bus, run: str) -> str:
    publisher = bus.publisher(run)
    cursor = await publisher.append("execution.completed", {"result": None})
    await publisher.aclose()
    return str(cursor)


async def watch_to_the_end(url: str, run: str, after: str | None = None, **query: str) -> list[Frame]:
    async with open_stream(url, run, after=after, query=query) as stream:
        assert stream.status == 200, await stream.body()
        return await stream.rest()


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
    async with httpx.AsyncClient(base_url=gateway_url, timeout=5) as client:
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
        async with asyncio.timeout(5), open_stream(gateway_url, run, after="1" * 1_000_000) as stream:
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
        # The id that it comes back with should nothing happen, then what it was told.
        first, *frames = watch.result()
        start = frames[0].payload["cursor"]
        starts.add(start)
        assert (first.id, first.is_skip) == (start, True)
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


# 6 · resumable-stream 47


async def test_case_06_an_end_that_falls_into_a_lost_connection_reaches_the_viewer(
    fresh_server: RunningServer, run: str
) -> None:
    with GatewayProcess(redis_url=fresh_server.url) as gateway:
        async with (
            await open_bus(fresh_server.url) as bus,
            Redis.from_url(fresh_server.url) as client,
            open_stream(await asyncio.to_thread(gateway.url), run) as unknown,
        ):
            assert unknown.status == 404
            await append_events(bus, run, 3)
            async with open_stream(gateway.url(), run) as stream:
                await stream.until("stream.caught_up")
                # In one step: nobody hears of the end on the connections that there were.
                pipeline = client.pipeline(transaction=True)
                pipeline.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                pipeline.execute_command("CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes")
                await pipeline.execute()
                terminal = await end(bus, run)
                frames = await stream.rest(seconds=10)
    assert ids_of(frames) == [terminal]
    assert names_of(frames)[-1] == "stream.end"


async def test_case_06_a_log_that_vanished_after_its_end_still_ends_its_viewers(
    bus: Bus, gateway_url: str, run: str
) -> None:
    await append_events(bus, run, 3)
    async with open_stream(gateway_url, run) as stream:
        await stream.until("stream.caught_up")
        # The ending and the loss in one step, as when a replica that had only the state were promoted.
        await bus.commands.command("MULTI")
        await bus.commands.command("HSET", bus.keys.meta(run), "terminal", "9999999999999-4", "status", "failed")
        await bus.commands.command("DEL", bus.keys.log(run))
        await bus.commands.command("EXEC")
        frames = await stream.rest(seconds=10)
    assert names_of(frames)[-1] == "stream.end"
    assert len(controls_of(frames, "stream.gap")) == 1


# 8 · aegra 472


@pytest.mark.parametrize("after", [None, 1], ids=["start", "cursor"])
async def test_case_08_an_ended_run_whose_log_expired_ends_at_once_and_says_that_events_are_gone(
    bus: Bus, gateway_url: str, run: str, after: int | None
) -> None:
    ids = await append_events(bus, run, 3)
    terminal = await end(bus, run)
    await bus.commands.command("PEXPIRE", bus.keys.log(run), 1)

    async def expired() -> bool:
        return not await bus.commands.command("EXISTS", bus.keys.log(run))

    await eventually(expired)
    frames = await watch_to_the_end(gateway_url, run, after=None if after is None else ids[after])
    assert names_of(frames)[:2] == ["stream.open", "stream.gap"]
    assert frames[1].payload["reason"] == "expired"
    assert names_of(frames)[-1] == "stream.end"
    assert frames[-1].payload["status"] == "completed"
    last = next(frame.id for frame in reversed(frames) if frame.id is not None)
    for cursor in (last, terminal):
        async with open_stream(gateway_url, run, after=cursor) as again:
            assert again.status == 204


async def test_case_08_a_run_of_which_nothing_is_left_is_unknown_at_once(bus: Bus, gateway_url: str, run: str) -> None:
    ids = await append_events(bus, run, 3)
    await end(bus, run)
    await bus.commands.command("DEL", *bus.keys.of_execution(run))
    async with open_stream(gateway_url, run, after=ids[0]) as stream:
        assert stream.status == 404


# 9 · agentex 385


async def test_case_09_a_missing_log_is_not_taken_as_an_end(bus: Bus, gateway_url: str, run: str) -> None:
    ids = await append_events(bus, run, 3)
    async with open_stream(gateway_url, run) as stream:
        await stream.until("stream.caught_up")
        await bus.commands.command("DEL", bus.keys.log(run))
        gap = await stream.until("stream.gap")
        async with open_stream(gateway_url, run, after=ids[-1]) as newcomer:
            await newcomer.until("stream.gap")
            new = await append_events(bus, run, 2, first=3)
            for viewer in (stream, newcomer):
                frames = await viewer.until_true(lambda frame: frame.id == new[-1])
                assert ids_of(frames) == new
                assert controls_of(frames, "stream.end") == []
    assert gap[-1].payload["reason"] == "expired"


async def test_case_09_a_quiet_run_outlives_its_retention_while_it_is_held(
    server_url: str, module_prefix: str, gateway_url: str, run: str
) -> None:
    settings = BusSettings(prefix=module_prefix, live_seconds=2, lease_seconds=1)
    async with await open_bus(server_url, settings=settings) as brief:
        async with brief.execution(run) as execution, open_stream(gateway_url, run) as stream:
            await stream.until("stream.caught_up")
            # Longer than the retention: what must not happen takes time.
            await asyncio.sleep(3.5)
            last = await execution.append("custom.answered", {"after": "a long think"})
            frames = await stream.until_true(lambda frame: frame.id == str(last))
        assert names_of(frames) == ["custom.answered"]
        assert await brief.commands.command("XLEN", brief.keys.log(run)) == 3


# 13 · aiq 272


async def test_case_13_no_control_frame_of_any_kind_carries_an_id(server_url: str, prefix: str, run: str) -> None:
    """The frame reader refuses control frames with an id, and ids without; here each kind is made to come."""
    seen: set[str | None] = set()
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as bus:
        with GatewayProcess(redis_url=server_url, prefix=prefix, drain_seconds="0.5") as gateway:
            url = await asyncio.to_thread(gateway.url)
            await append_events(bus, run, 3)
            async with open_stream(url, run, after="1-1") as stream:
                seen |= {frame.name for frame in await stream.until("stream.caught_up")}
                await end(bus, run)
                seen |= {frame.name for frame in await stream.rest()}
            broken, drained = f"{run}-broken", f"{run}-drained"
            await append_events(bus, broken, 1)
            async with open_stream(url, broken) as stream:
                await stream.until("stream.caught_up")
                await bus.commands.command("SET", bus.keys.log(broken), "no stream")
                seen |= {frame.name for frame in await stream.rest()}
            await append_events(bus, drained, 1)
            async with open_stream(url, drained) as stream:
                await stream.until("stream.caught_up")
                gateway.signal(signal.SIGTERM)
                seen |= {frame.name for frame in await stream.rest()}
    kinds = {"open", "gap", "caught_up", "end", "error", "reconnect"}
    assert {f"stream.{kind}" for kind in kinds} <= seen


# 14 · trigger.dev v1


@pytest.mark.parametrize("query", [{}, {"events": "message"}, {"coalesce_ms": "50"}, {"types": "custom.*"}], ids=str)
async def test_case_14_every_entry_of_a_batch_has_an_id_and_a_frame_of_its_own(
    bus: Bus, gateway_url: str, run: str, query: dict[str, str]
) -> None:
    await append_events(bus, run, 300)
    async with open_stream(gateway_url, run, query=query) as stream:
        stream.expect_unnamed("events" in query)
        frames = await stream.until("stream.caught_up")
        await append_events(bus, run, 300, first=300)
        await end(bus, run)
        frames += await stream.rest()
    assert ids_of(frames) == await log_ids(bus, run)
    assert [frame.payload["data"] for frame in frames if frame.id is not None] == await log_data(bus, run)


# 17 · open-webui 25975


async def test_case_17_an_event_over_the_limit_is_refused_with_its_size_and_the_limit(
    bus: Bus, gateway_url: str, run: str
) -> None:
    publisher = bus.publisher(run)
    with pytest.raises(EventTooLargeError) as refusal:
        await publisher.emit("custom.huge", {"text": "x" * 33_000_000})
    await publisher.append("custom.small")
    await publisher.aclose()
    assert (refusal.value.size_bytes, refusal.value.limit_bytes) == (33_000_011, 256 * 1024)
    async with httpx.AsyncClient(base_url=gateway_url, timeout=10) as client:
        answer = await client.post(
            "/v1/executions",
            json={"pipeline": "document", "input": {"text": "x" * 300_000}, "execution_id": f"{run}-2"},
        )
    assert answer.status_code == 413
    assert answer.json()["size_bytes"] > answer.json()["limit_bytes"]
    assert len(await log_ids(bus, run)) == 1


async def test_case_17_a_log_of_large_events_replayed_to_slow_viewers_costs_bounded_memory(
    server_url: str, prefix: str, run: str
) -> None:
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as bus:
        with GatewayProcess(redis_url=server_url, prefix=prefix) as gateway:
            url = await asyncio.to_thread(gateway.url)
            publisher = bus.publisher(run)
            for k in range(220):
                await publisher.emit("custom.large", {"k": k, "text": "x" * 250_000})
            await publisher.append("execution.completed")
            await publisher.aclose()
            ids = await log_ids(bus, run)
            before = resident_bytes(gateway.pid)
            async with AsyncExitStack() as stack:
                slow = [
                    await stack.enter_async_context(open_stream(url, run, receive_buffer_bytes=4096)) for _ in range(20)
                ]
                for stream in slow:
                    await stream.until("stream.open")
                # Each has asked for all of the log and takes nothing.
                await asyncio.sleep(2)
                for stream in slow[1:]:
                    stream.close()
                frames = await slow[0].rest(seconds=60)
            grown_mib = (peak_resident_bytes(gateway.pid) - before) / 2**20
            await bus.commands.command("DEL", *bus.keys.of_execution(run))
    print(f"20 slow viewers of a log of 55 MB: {grown_mib:.0f} MiB more")
    assert ids_of(frames) == ids
    assert grown_mib < 100


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


# 19 · deer-flow 3932


async def test_case_19_every_key_of_a_run_has_a_time_to_live_at_every_moment(
    server_url: str, module_prefix: str, bus: Bus, gateway_url: str, run: str
) -> None:
    async with httpx.AsyncClient(base_url=gateway_url) as client:
        submitted = await client.post("/v1/executions", json={"pipeline": "none", "execution_id": run})
    assert submitted.status_code == 202
    assert set(await ttls(bus, run)) == {"log", "meta"}
    leased = f"{run}-leased"
    await bus.leases.take(leased, "somebody")
    await ttls(bus, leased)
    appended = f"{run}-appended"
    await append_events(bus, appended, 3)
    await ttls(bus, appended)
    kept = bus.settings.retention
    await end(bus, appended)
    ended = await ttls(bus, appended)
    assert ended["log"] <= kept.ended_seconds
    assert kept.ended_seconds < ended["meta"] <= kept.ended_state_seconds


async def test_case_19_a_publisher_killed_at_any_moment_leaves_no_key_without_a_time_to_live(
    server_url: str, module_prefix: str, bus: Bus, run: str
) -> None:
    runs = [f"{run}-{number}" for number in range(20)]
    order = Order(redis_url=server_url, prefix=module_prefix, runs=runs, events_a_run=1_000_000, seconds=60, seed=1)
    with PublisherProcess(order) as publisher:

        async def begun() -> bool:
            """the publisher has begun"""
            return bool(await bus.commands.command("EXISTS", bus.keys.log(runs[0])))

        await eventually(begun)
        os.kill(publisher.pid, signal.SIGKILL)
    found = [await ttls(bus, each) for each in runs]
    assert any(found)


async def ttls(bus: Bus, run: str) -> dict[str, int]:
    """By kind of key; asserts that each has one."""
    pattern = bus.keys.log(run).removesuffix("log").replace("[", "\\[") + "*"
    keys = [key.decode() async for key in scan(bus, pattern)]
    found = {key.rpartition(":")[2]: await bus.commands.command("TTL", key) for key in keys}
    assert all(ttl > 0 for ttl in found.values()), found
    return found


async def scan(bus: Bus, pattern: str) -> AsyncGenerator[bytes, None]:
    cursor = b"0"
    while True:
        cursor, keys = await bus.commands.command("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
        for key in keys:
            yield key
        if cursor == b"0":
            return


# 27 · trigger.dev 2929


async def test_case_27_a_stream_cut_by_its_gateways_death_does_not_look_like_an_end(
    server_url: str, prefix: str, run: str
) -> None:
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as bus:
        ids = await append_events(bus, run, 5)
        with GatewayProcess(redis_url=server_url, prefix=prefix) as gateway:
            url = await asyncio.to_thread(gateway.url)
            async with open_stream(url, run) as stream:
                frames = await stream.until("stream.caught_up")
                gateway.signal(signal.SIGKILL)
                with pytest.raises(ConnectionBrokenError):
                    await stream.rest()
    assert ids_of(frames) == ids
    assert not stream.complete
    assert not {"stream.end", "execution.completed"} & set(names_of(frames))


async def test_case_27_a_stream_that_its_gateway_closed_on_leaving_says_that_it_goes_on_elsewhere(
    server_url: str, prefix: str, run: str
) -> None:
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as bus:
        await append_events(bus, run, 5)
        with GatewayProcess(redis_url=server_url, prefix=prefix, drain_seconds="0") as gateway:
            async with open_stream(await asyncio.to_thread(gateway.url), run) as stream:
                await stream.until("stream.caught_up")
                gateway.signal(signal.SIGTERM)
                frames = await stream.rest()
    assert stream.complete
    assert names_of(frames) == ["stream.reconnect"]


async def test_case_27_an_ended_stream_says_so_last(bus: Bus, gateway_url: str, run: str) -> None:
    await append_events(bus, run, 5)
    terminal = await end(bus, run)
    begun = time.monotonic()
    async with open_stream(gateway_url, run) as stream:
        frames = await stream.rest()
    assert time.monotonic() - begun < 5
    assert stream.complete
    assert names_of(frames)[-2:] == ["execution.completed", "stream.end"]
    assert frames[-1].payload == {"execution_id": run, "cursor": terminal, "status": "completed"}
