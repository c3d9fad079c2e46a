"""Viewers that are gone cost nothing, however they went; viewers that do not read are cut, and resume exactly."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack

import pytest

from tailrace.bus import Bus, BusSettings, open_bus
from tests.e2e.logs import append_events, controls_of, ids_of, log_ids
from tests.e2e.sse_client import ConnectionBrokenError, SseStream, open_stream
from tests.e2e.sse_frames import Frame
from tests.e2e.waiting import eventually
from tests.faults.gateway.sockets import connections, vanish
from tests.integration.gateway.live import GatewayProcess
from tests.patience import patient, stretched

pytestmark = pytest.mark.anyio

VIEWERS = 50
SLOW_TIMEOUT_SECONDS = 1.5


@pytest.fixture
def gateway(server_url: str, prefix: str) -> Iterator[GatewayProcess]:
    with GatewayProcess(
        redis_url=server_url,
        prefix=prefix,
        heartbeat_seconds="0.5",
        slow_timeout_seconds=str(SLOW_TIMEOUT_SECONDS),
        vanished_seconds="2",
    ) as process:
        yield process


@pytest.fixture
async def bus(server_url: str, prefix: str) -> AsyncGenerator[Bus, None]:
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as opened:
        yield opened


async def only_what_was_there(gateway: GatewayProcess, before: int) -> None:
    async def few() -> bool:
        """the gateway holds no more connections than before its viewers came"""
        return connections(gateway.pid) <= before

    await eventually(few, seconds=20)


@pytest.mark.parametrize("how", ["close", "reset", "silence"])
async def test_connections_return_to_what_they_were_when_viewers_are_gone(
    gateway: GatewayProcess, bus: Bus, run: str, how: str
) -> None:
    url = await asyncio.to_thread(gateway.url)
    await append_events(bus, run, 3)
    before = connections(gateway.pid)
    async with AsyncExitStack() as stack:
        viewers = [await stack.enter_async_context(open_stream(url, run)) for _ in range(VIEWERS)]
        for viewer in viewers:
            await viewer.until("stream.caught_up")
        assert connections(gateway.pid) >= before + VIEWERS
        for viewer in viewers:
            match how:
                case "close":
                    viewer.close()
                case "reset":
                    viewer.reset()
                case _:
                    vanish(viewer.raw_socket)
        await only_what_was_there(gateway, before)
    # And nobody else suffers.
    async with open_stream(url, run) as stream:
        assert ids_of(await stream.until("stream.caught_up")) == await log_ids(bus, run)


async def test_viewers_that_go_in_the_middle_of_a_replay_leave_nothing_behind(
    gateway: GatewayProcess, bus: Bus, run: str
) -> None:
    url = await asyncio.to_thread(gateway.url)
    await append_large(bus, run, 200)
    before = connections(gateway.pid)
    chance = random.Random(3)

    async def come_and_go() -> None:
        async with open_stream(url, run, receive_buffer_bytes=4096) as stream:
            for _ in range(chance.randrange(20)):
                await stream.read(chance.randrange(1, 5000))
            stream.reset()

    for _ in range(5):
        await asyncio.gather(*(come_and_go() for _ in range(VIEWERS)))
    await only_what_was_there(gateway, before)
    assert not [line for line in gateway.errors if "Traceback" in line or "ERROR" in line], gateway.errors


async def test_a_viewer_that_does_not_read_is_cut_after_the_slow_timeout_and_resumes_exactly(
    gateway: GatewayProcess, bus: Bus, run: str
) -> None:
    url = await asyncio.to_thread(gateway.url)
    await append_large(bus, run, 200)
    before = connections(gateway.pid)
    frames: list[Frame] = []
    async with open_stream(url, run, receive_buffer_bytes=4096) as slow:
        frames += await slow.until_true(lambda frame: frame.id is not None)
        began = asyncio.get_running_loop().time()
        await only_what_was_there(gateway, before)
        took_seconds = asyncio.get_running_loop().time() - began
        # What the kernels hold is still there to be read, up to the cut in the middle of anything.
        frames += await until_cut(slow)
    assert SLOW_TIMEOUT_SECONDS - 0.1 < took_seconds < stretched(SLOW_TIMEOUT_SECONDS + 4)
    last = ids_of(frames)[-1]
    assert last != (await log_ids(bus, run))[-1]
    await append_events(bus, run, 1, kind="execution.completed")
    async with open_stream(url, run, after=last) as stream:
        frames += await stream.rest()
    assert ids_of(frames) == await log_ids(bus, run)
    assert controls_of(frames, "stream.gap") == []


async def test_attack_32_a_viewer_that_reads_slowly_but_steadily_is_not_cut(
    gateway: GatewayProcess, bus: Bus, run: str
) -> None:
    url = await asyncio.to_thread(gateway.url)
    await append_large(bus, run, 60)
    ids = await append_events(bus, run, 1, kind="execution.completed")
    async with open_stream(url, run, receive_buffer_bytes=16_384) as slow:
        frames = await read_over(slow, seconds=3 * SLOW_TIMEOUT_SECONDS, whole_bytes=60 * 60_000)
    assert ids_of(frames) == ids


async def until_cut(stream: SseStream) -> list[Frame]:
    frames: list[Frame] = []
    try:
        async with asyncio.timeout(patient(20)):
            while (frame := await stream.next()) is not None:
                frames.append(frame)
    except ConnectionBrokenError:
        return frames
    raise AssertionError("it was closed well, as if that were the end")


async def read_over(stream: SseStream, *, seconds: float, whole_bytes: int) -> list[Frame]:
    """Read at such a pace that it takes about so long."""
    loop = asyncio.get_running_loop()
    begun, got, frames = loop.time(), 0, list[Frame]()
    while data := await stream.read():
        got += len(data)
        frames += stream.frames_reader.feed(data)
        await asyncio.sleep(max(0.0, begun + seconds * got / whole_bytes - loop.time()))
    return frames


async def append_large(bus: Bus, run: str, count: int) -> None:
    publisher = bus.publisher(run)
    for _ in range(count):
        await publisher.emit("custom.large", {"text": "x" * 60_000})
    await publisher.aclose()
