"""A connection that has gone leaves nothing behind that only the garbage collector finds: it looks seldom here."""

from __future__ import annotations

import asyncio
import gc
import json
import os
from collections import Counter
from urllib.parse import urlsplit

import pytest

from bench.load.frames import TEXT, masked, upgrade
from tailrace.bus import Bus
from tailrace.gateway.app import create_app
from tailrace.gateway.settings import read_settings
from tests.integration.gateway.live import live_app
from tests.patience import patient

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("both_ways")]

COUNT = 5
OURS = ("tailrace.", "uvicorn.", "websockets.", "httptools.")
PATHS = {
    "sse": "/v1/executions/x/events",
    "ndjson": "/v1/executions/x/events",
    "stream": "/v1/stream?execution=x&execution=y",
    "websocket": "/v1/ws",
}


async def come_and_go(url: str, kind: str) -> None:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    if kind == "websocket":
        writer.write(upgrade("localhost", PATHS[kind], "", {}))
        await reader.readuntil(b"\r\n\r\n")
        for number, execution in enumerate("xy"):
            op = {"op": "subscribe", "id": number, "execution": execution, "coalesce_ms": 50}
            writer.write(masked(TEXT, json.dumps(op).encode()))
    else:
        accept = "application/x-ndjson" if kind == "ndjson" else "text/event-stream"
        writer.write(f"GET {PATHS[kind]} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode())
    got = b""
    async with asyncio.timeout(patient(10)):
        while got.count(b"caught_up") < (2 if kind in {"stream", "websocket"} else 1):
            got += await reader.read(65536)
    writer.transport.abort()


@pytest.mark.parametrize("kind", PATHS)
async def test_attack_52_a_viewer_that_has_gone_leaves_nothing_to_the_garbage_collector(bus: Bus, kind: str) -> None:
    app = create_app(bus, read_settings(drain_seconds=0))
    async with live_app(app) as url, bus.execution("x"), bus.execution("y"):
        hub = app.state.gateway.hub

        async def all_gone() -> None:
            async with asyncio.timeout(patient(10)):
                while hub.viewers or len(app.state.gateway.presence.connections):  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.01)
            # What the tasks that have ended still hold.
            for _ in range(5):
                await asyncio.sleep(0.01)

        await come_and_go(url, kind)
        await all_gone()
        gc.collect()
        gc.disable()
        try:
            for _ in range(COUNT):
                await come_and_go(url, kind)
            await all_gone()
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            names = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.garbage)
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    # Without direct writes the server's connections are as it makes them itself.
    mine = OURS[:1] if "TAILRACE_DIRECT_WRITES" in os.environ else OURS
    left = {name: count for name, count in names.items() if name.startswith(mine) and count >= COUNT}
    assert left == {}
