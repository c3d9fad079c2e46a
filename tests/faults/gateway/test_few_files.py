"""A gateway that may open few files: streams are refused in words, and what is under way goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import httpx
import pytest

from tailrace.bus import Bus, BusSettings, open_bus
from tailrace.gateway.asgi.listener import SPARE_FILES
from tests.e2e.sse_client import open_stream
from tests.e2e.waiting import eventually
from tests.integration.gateway.live import GatewayProcess
from tests.patience import patient

pytestmark = pytest.mark.anyio

FILES = 200
ROOM = FILES - SPARE_FILES


class PoorGateway(GatewayProcess):
    started_by = ("sh", "-c", 'ulimit -n "$0" && exec "$@"', str(FILES))


@pytest.fixture
async def bus(server_url: str, prefix: str) -> AsyncGenerator[Bus, None]:
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as opened:
        yield opened


async def test_streams_beyond_the_files_there_are_get_a_503_and_the_others_go_on(
    bus: Bus, server_url: str, prefix: str
) -> None:
    with PoorGateway(redis_url=server_url, prefix=prefix, max_connections="5000") as gateway:
        url = gateway.url()
        async with bus.execution("run") as execution, AsyncExitStack() as stack:
            streams = [await stack.enter_async_context(open_stream(url, "run")) for _ in range(ROOM)]
            assert {stream.status for stream in streams} == {200}
            async with httpx.AsyncClient(base_url=url) as client:
                refused = await client.get("/v1/executions/run/events")
                assert (refused.status_code, refused.json()["code"]) == (503, "gateway_full")
                assert refused.json()["limit"] == ROOM
                assert "Retry-After" in refused.headers
                assert (await client.get("/readyz")).status_code == 200
            await execution.append("custom.a", {})
            for stream in streams:
                await stream.until("custom.a")
        assert any(f"{FILES} files may be open: {ROOM} streams at most" in line for line in gateway.errors)


async def test_silent_connections_that_use_up_all_files_are_closed_and_service_comes_back(
    bus: Bus, server_url: str, prefix: str
) -> None:
    with PoorGateway(redis_url=server_url, prefix=prefix, head_seconds="2") as gateway:
        netloc = urlsplit(gateway.url())
        async with bus.execution("run") as execution, open_stream(gateway.url(), "run") as stream:
            await stream.until("stream.caught_up")
            silent = [await asyncio.open_connection(netloc.hostname, netloc.port) for _ in range(2 * FILES)]
            # Who is there already goes on while there are no files left.
            await execution.append("custom.a", {})
            await stream.until("custom.a")

            async def is_ready() -> bool:
                async with httpx.AsyncClient(base_url=gateway.url(), timeout=patient(5)) as client:
                    try:
                        return (await client.get("/readyz")).status_code == 200
                    except httpx.TransportError:
                        return False

            await eventually(is_ready, seconds=30)
            for _, writer in silent:
                writer.transport.abort()
