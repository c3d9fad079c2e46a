from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx
import pytest

from tailrace.bus import Bus, BusSettings, open_bus
from tailrace.gateway.asgi.stepping import SteppedSend
from tailrace.gateway.asgi.uvicorn_internals import AsgiSink, FramedSend
from tailrace.gateway.wire.formats import Message
from tests.integration.gateway.live import live_gateway


@pytest.fixture
async def bus(server_url: str, prefix: str) -> AsyncGenerator[Bus, None]:
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as opened:
        yield opened


@pytest.fixture(params=["direct", "stepped"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test once as a gateway normally writes, and once by the server's ``send`` alone."""
    if request.param == "direct":
        return

    for sink, seen in ((AsgiSink, "_cycle"), (FramedSend, "_protocol")):

        def write(
            self: SteppedSend,
            message: Message,
            *,
            step: Callable[[Any, Message], bool] = sink.write,
            seen: str = seen,
        ) -> bool:
            assert getattr(self, seen) is None, "this viewer would be written to past send()"
            return step(self, message)

        monkeypatch.setattr(sink, "write", write)
    monkeypatch.setenv("TAILRACE_DIRECT_WRITES", "false")


@pytest.fixture
async def gateway_url(bus: Bus) -> AsyncGenerator[str, None]:
    async with live_gateway(bus) as url:
        yield url


@pytest.fixture
async def client(gateway_url: str) -> AsyncGenerator[httpx.AsyncClient, None]:
    async with httpx.AsyncClient(base_url=gateway_url) as opened:
        yield opened
