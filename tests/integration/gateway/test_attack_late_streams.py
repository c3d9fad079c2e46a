"""A stream that begins long after it was asked for gets its events, and none is left with a log nobody reads for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from tailrace.bus import Bus
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import START
from tailrace.gateway.app import create_app
from tailrace.gateway.hub import Hub, Viewer
from tailrace.gateway.settings import read_settings
from tailrace.gateway.streams.long_poll import WAKE_UP, WakeUpSink
from tests.integration.gateway.live import live_app
from tests.integration.ws.raw import raw
from tests.patience import patient

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("both_ways")]

# More than the kernel takes of an answer that is not read.
LARGE_EVENTS = 60
LARGE_BYTES = 200_000


@asynccontextmanager
async def gateway_and_hub(bus: Bus) -> AsyncGenerator[tuple[str, Hub], None]:
    settings = read_settings(drain_seconds=0, linger_seconds=0.1, page_bytes=64 * 1024 * 1024)
    app = create_app(bus, settings)
    async with live_app(app) as url:
        yield url, app.state.gateway.hub


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(patient(10)):
        while not condition():  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)


async def outlive_lingering(hub: Hub) -> None:
    """Wait until what nobody holds has been let go of."""
    topic = await hub.open("idle")
    assert topic.viewers == {}
    await until(lambda: "idle" not in hub.viewers_by_execution())


async def write_large(bus: Bus) -> None:
    async with bus.execution("large") as execution:
        for _ in range(LARGE_EVENTS):
            await execution.append("custom.large", "x" * LARGE_BYTES)


@asynccontextmanager
async def slow_client(url: str) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter], None]:
    address = urlsplit(url)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, (address.hostname, address.port))
    reader, writer = await asyncio.open_connection(sock=client, limit=4096)
    try:
        yield reader, writer
    finally:
        writer.close()


async def read_until(reader: asyncio.StreamReader, text: bytes) -> None:
    end = b""
    async with asyncio.timeout(patient(10)):
        while text not in end:
            got = await reader.read(256 * 1024)
            assert got, "the connection was closed"
            end = end[-len(text) :] + got


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/v1/executions/live/events", "text/event-stream"),
        ("/v1/executions/live/events", "application/x-ndjson"),
        ("/v1/stream?execution=live&execution=large", "text/event-stream"),
    ],
)
async def test_attack_56_a_stream_behind_a_page_that_is_read_late_gets_its_events(
    bus: Bus, path: str, accept: str
) -> None:
    """It was asked for on the same connection, and its log was let go of before it could begin."""
    await write_large(bus)
    async with (
        gateway_and_hub(bus) as (url, hub),
        bus.execution("idle"),
        bus.execution("live") as execution,
        slow_client(url) as (reader, writer),
    ):
        for target, wanted in (("/v1/executions/large/events?limit=1000", "application/json"), (path, accept)):
            writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept: {wanted}\r\n\r\n".encode())
        await until(lambda: "live" in hub.viewers_by_execution())
        await outlive_lingering(hub)
        assert hub.viewers_by_execution()["live"] == 0, "the stream has not begun yet"
        await read_until(reader, b"stream.caught_up")
        await execution.append("custom.late")
        await read_until(reader, b'"type":"custom.late"')


async def test_attack_56_a_subscription_behind_a_backlog_that_is_read_late_gets_its_events(bus: Bus) -> None:
    await write_large(bus)
    async with (
        gateway_and_hub(bus) as (url, hub),
        bus.execution("idle"),
        bus.execution("live") as execution,
        raw(url, receive_bytes=4096) as client,
    ):
        await client.send({"op": "subscribe", "id": 1, "execution": "large"})
        await until(lambda: hub.counters["viewer_lags"] > 0)
        await client.send({"op": "subscribe", "id": 2, "execution": "live"})
        await until(lambda: "live" in hub.viewers_by_execution())
        await outlive_lingering(hub)
        await execution.append("custom.late")
        while "live" not in [said["execution"] for said in client.said if said.get("type") == "custom.late"]:
            await client.until("event")


async def test_attack_56_a_viewer_of_a_log_that_was_let_go_of_is_cut_and_comes_back(bus: Bus) -> None:
    """Whatever made it late: it must not stay for ever with a log that is read no more."""
    async with gateway_and_hub(bus) as (_, hub), bus.execution("idle"), bus.execution("live"):
        topic = await hub.open("live")
        await outlive_lingering(hub)
        assert "live" not in hub.viewers_by_execution()
        sink = WakeUpSink()
        topic.join(Viewer(sink, WAKE_UP, Numbering.after(START)))
        assert sink.woken.is_set()
        assert hub.counters["late_viewers"] == 1
        assert topic.viewers == {}
