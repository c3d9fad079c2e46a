"""Frames, sizes and lifetimes: each test is named after the failure case of others' systems."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from tailrace.bus import Bus, BusSettings, EventTooLargeError, open_bus
from tests.e2e.logs import (
    append_events,
    ids_of,
    log_data,
    log_ids,
)
from tests.e2e.publishing import Order, PublisherProcess
from tests.e2e.runs import end
from tests.e2e.sse_client import open_stream
from tests.e2e.waiting import eventually
from tests.integration.gateway.live import GatewayProcess
from tests.patience import patient

pytestmark = pytest.mark.anyio


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
    async with httpx.AsyncClient(base_url=gateway_url, timeout=patient(10)) as client:
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
