"""Viewers that take nothing cost a cursor and a socket's buffer, and nobody else's time."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tailrace.bus import Bus
from tests.e2e.logs import append_events, controls_of, ids_of, log_ids
from tests.e2e.sse_client import ConnectionBrokenError, SseStream, open_stream
from tests.e2e.sse_frames import Frame
from tests.e2e.waiting import eventually
from tests.faults.gateway.sockets import connections
from tests.integration.gateway.live import GatewayProcess
from tests.patience import patient, stretched
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

STUCK = 50
READING = 3
EVENTS = 2000
EVENT_BYTES = 10_000
SLOW_TIMEOUT_SECONDS = 2.0
# 50 queues of 20 MB would be a thousand.
MOST_MIB = 60


async def test_case_25_viewers_that_stop_reading_cost_bounded_memory_and_nobody_elses_time(
    fresh_server: RunningServer, prefix: str, bus: Bus, run: str
) -> None:
    """Source: OpenCTI 13908, dust 24357, sse-starlette 142: queues for those who do not read, until memory is out."""
    async with AsyncExitStack() as stack:
        gateway = stack.enter_context(
            GatewayProcess(redis_url=fresh_server.url, prefix=prefix, slow_timeout_seconds=str(SLOW_TIMEOUT_SECONDS))
        )
        url = await asyncio.to_thread(gateway.url)
        begun = await append_events(bus, run, 1)
        readers = [await stack.enter_async_context(open_stream(url, run)) for _ in range(READING)]
        before_stuck = connections(gateway.pid)
        stuck = [
            await stack.enter_async_context(open_stream(url, run, receive_buffer_bytes=4096)) for _ in range(STUCK)
        ]
        for stream in (*readers, *stuck):
            await stream.until("stream.caught_up")
        before_bytes = resident_bytes(gateway.pid)
        reading = [asyncio.create_task(read_to_the_end(stream)) for stream in readers]
        await publish(bus, run)
        ended = time.monotonic()
        results = await asyncio.gather(*reading)
        behind_seconds = time.monotonic() - ended
        grown_mib = (peak_resident_bytes(gateway.pid) - before_bytes) / 2**20

        async def cut() -> bool:
            """those who read nothing were cut"""
            return connections(gateway.pid) <= before_stuck

        await eventually(cut, seconds=SLOW_TIMEOUT_SECONDS + 4)
        got = await until_cut(stuck[0])
        async with open_stream(url, run, after=ids_of(got)[-1]) as stream:
            got += await stream.rest()
    worst = max(delay for _, delays in results for delay in delays)
    median = sorted(delay for _, delays in results for delay in delays)[READING * EVENTS // 2]
    print(
        f"{grown_mib:.0f} MiB more; readers got events after {median * 1e3:.0f} ms, at worst {worst * 1e3:.0f} ms, "
        f"and were done {behind_seconds:.2f} s after the last"
    )
    ids = await log_ids(bus, run)
    assert len(ids) == len(begun) + EVENTS + 1
    assert [begun + seen for seen, _ in results] == [ids] * READING
    assert grown_mib < MOST_MIB
    assert median < stretched(0.5)
    assert behind_seconds < stretched(3)
    # Cut in the middle of anything, and resumed without loss.
    assert begun + ids_of(got) == ids
    assert controls_of(got, "stream.gap") == []


async def test_case_25_viewers_whose_process_is_stopped_are_cut_like_any_who_read_nothing(
    fresh_server: RunningServer, prefix: str, bus: Bus, run: str
) -> None:
    """Source: trigger.dev 3399, 24k connections of the vanished. Their kernel acknowledges; nobody reads."""
    with GatewayProcess(redis_url=fresh_server.url, prefix=prefix, slow_timeout_seconds="1") as gateway:
        url = await asyncio.to_thread(gateway.url)
        begun = await append_events(bus, run, 1)
        async with open_stream(url, run) as reader:
            await reader.until("stream.caught_up")
            before = connections(gateway.pid)
            with subprocess.Popen(  # noqa: ASYNC220 - to be stopped as a whole; asyncio would wait for it
                [sys.executable, "-m", "tests.integration.hub.stopped_viewer", url, run, "20"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            ) as viewers:
                try:
                    assert viewers.stdout is not None
                    assert await asyncio.to_thread(viewers.stdout.readline) == b"watching\n"
                    assert connections(gateway.pid) == before + 20
                    os.kill(viewers.pid, signal.SIGSTOP)
                    reading = asyncio.create_task(read_to_the_end(reader))
                    await publish(bus, run)

                    async def cut() -> bool:
                        """the stopped were cut"""
                        return connections(gateway.pid) < before + 20

                    await eventually(cut, seconds=8)
                    assert begun + (await reading)[0] == await log_ids(bus, run)

                    async def only_who_was_there() -> bool:
                        """the gateway holds none of their connections, nor the reader's"""
                        return connections(gateway.pid) <= before

                    await eventually(only_who_was_there, seconds=8)
                finally:
                    viewers.kill()


async def publish(bus: Bus, run: str) -> None:
    """20 MB and the ending, about as fast as the readers of a test can parse them."""
    publisher = bus.publisher(run)
    for number in range(EVENTS):
        await publisher.emit("custom.large", {"at": time.monotonic(), "text": "x" * EVENT_BYTES})
        if number % 10 == 0:
            await asyncio.sleep(0.02)
    await publisher.append("execution.completed", {"at": time.monotonic()})
    await publisher.aclose()


async def read_to_the_end(stream: SseStream) -> tuple[list[str], list[float]]:
    """The ids, and how many seconds after it was emitted each event came."""
    ids: list[str] = []
    delays: list[float] = []
    async with asyncio.timeout(patient(30)):
        while (frame := await stream.next()) is not None:
            if frame.id is not None:
                ids.append(frame.id)
                delays.append(time.monotonic() - frame.payload["data"]["at"])
    return ids, delays


async def until_cut(stream: SseStream) -> list[Frame]:
    """What the kernels still held."""
    frames: list[Frame] = []
    try:
        async with asyncio.timeout(patient(10)):
            while (frame := await stream.next()) is not None:
                frames.append(frame)
    except ConnectionBrokenError:
        return frames
    raise AssertionError("it was closed well, as if that were the end")


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
