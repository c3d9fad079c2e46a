"""A viewer that comes back costs Redis one read of the execution's state, on every wire, with a token and without."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import websockets

from tailrace.bus import Bus
from tailrace.gateway.settings import read_settings
from tailrace.gateway.wire.cursors import Cursors
from tests.integration.auth.issuer import SECRET, Issuer
from tests.integration.gateway.live import live_gateway

pytestmark = pytest.mark.anyio

Resume = Callable[[str, dict[str, str], Any], Awaitable[None]]


async def by_sse(url: str, headers: dict[str, str], cursor: Any) -> None:
    await _read(f"{url}/v1/executions/e/events", {**headers, "Last-Event-ID": str(cursor)})


async def by_ndjson(url: str, headers: dict[str, str], cursor: Any) -> None:
    await _read(f"{url}/v1/executions/e/events?from={cursor}", {**headers, "Accept": "application/x-ndjson"})


async def by_multiplex(url: str, headers: dict[str, str], cursor: Any) -> None:
    await _read(f"{url}/v1/stream?execution=e", {**headers, "Last-Event-ID": Cursors(["e"], [cursor]).id().decode()})


async def by_websocket(url: str, headers: dict[str, str], cursor: Any) -> None:
    address = f"{url.replace('http', 'ws', 1)}/v1/executions/e/ws?from={cursor}"
    async with websockets.connect(address, additional_headers=headers) as socket:
        async for frame in socket:
            if "caught_up" in str(frame):
                return


async def _read(url: str, headers: dict[str, str]) -> None:
    async with httpx.AsyncClient(headers=headers, timeout=30) as client, client.stream("GET", url) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if "stream.caught_up" in line:
                return


@asynccontextmanager
async def counted(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[list[str], None]:
    """Names of the commands that concern the execution's state, or whether it exists, as they are sent."""
    sent: list[str] = []
    command, meta = bus.commands.command, bus.keys.meta("e")

    async def counting(*given: Any) -> Any:
        if meta in given[1:]:
            sent.append(str(given[0]))
        return await command(*given)

    with monkeypatch.context() as patch:
        patch.setattr(bus.commands, "command", counting)
        yield sent


@pytest.mark.parametrize("resume", [by_sse, by_ndjson, by_multiplex, by_websocket])
@pytest.mark.parametrize("secret", [None, SECRET], ids=["open", "token"])
async def test_a_resume_reads_the_state_once(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, resume: Resume, secret: str | None
) -> None:
    await bus.submit("document", execution_id="e", tenant="acme")
    cursor = await bus.log.latest("e")
    settings = read_settings(drain_seconds=0, **({} if secret is None else {"jwt_hs256_keys": secret}))
    headers = {} if secret is None else Issuer().headers()
    async with live_gateway(bus, settings) as url:
        async with counted(bus, monkeypatch) as first:
            await resume(url, headers, cursor)
        async with counted(bus, monkeypatch) as again:
            await resume(url, headers, cursor)
    assert (first, again) == (["HMGET"], ["HMGET"])
