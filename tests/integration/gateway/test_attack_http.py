"""What clients do with HTTP that no browser does: they get what they asked for, and keep nothing that is not theirs."""

from __future__ import annotations

import asyncio
import asyncio.selector_events
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tailrace.bus import Bus
from tests.patience import patient

pytestmark = pytest.mark.anyio

BODY = b'{"pipeline": "document", "input": {"path": "/nowhere"}, "execution_id": "x"}'


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter], None]:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        async with asyncio.timeout(patient(10)):
            yield reader, writer
    finally:
        writer.close()


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of an answer that says how long it is."""
    head = await reader.readuntil(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head, await reader.readexactly(size)


@pytest.mark.parametrize("cut", [None, 40, -len(BODY), -10])
async def test_attack_55_a_request_that_offers_another_protocol_keeps_its_body(
    gateway_url: str, cut: int | None
) -> None:
    """Java's client offers h2c with each first request; the body was lost, wherever the packets end."""
    head = (
        b"POST /v1/executions HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAEAAEAA\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    )
    sent = head + BODY
    async with connected(gateway_url) as (reader, writer):
        writer.write(sent[:cut])
        await writer.drain()
        if cut is not None:
            await asyncio.sleep(0.05)
            writer.write(sent[cut:])
        status, body = await answer(reader)
        assert status.startswith(b"HTTP/1.1 202 "), body
        # The connection goes on as any other.
        writer.write(b"GET /v1/executions/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        status, body = await answer(reader)
        assert status.startswith(b"HTTP/1.1 200 "), body


async def test_attack_55_a_request_for_a_tunnel_is_refused(gateway_url: str) -> None:
    async with connected(gateway_url) as (reader, writer):
        writer.write(b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 4")


async def test_attack_58_line_breaks_after_an_answer_do_not_keep_a_connection(
    gateway_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They ended the time that an idle connection has, and no other began."""
    idle_seconds = property(lambda _: 0.5, lambda *_: None)
    monkeypatch.setattr(HttpToolsProtocol, "timeout_keep_alive", idle_seconds, raising=False)
    async with connected(gateway_url) as (reader, writer):
        writer.write(b"GET /v1/executions/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        status, _ = await answer(reader)
        assert status.startswith(b"HTTP/1.1 404 ")
        writer.write(b"\r\n")
        assert await reader.read() == b""


async def test_attack_60_a_client_of_http_1_0_gets_a_stream_without_chunks(bus: Bus, gateway_url: str) -> None:
    async with bus.execution("x") as execution:
        await execution.append("custom.n", {"n": 1})
    async with connected(gateway_url) as (reader, writer):
        writer.write(b"GET /v1/executions/x/events HTTP/1.0\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert body.startswith(b"retry: ")
    assert body.endswith(b"}\n\n")
    assert body.count(b"\n\n") == 5, body


async def test_attack_60_live_events_reach_a_client_of_http_1_0(bus: Bus, gateway_url: str) -> None:
    async with bus.execution("x") as execution, connected(gateway_url) as (reader, writer):
        writer.write(b"GET /v1/executions/x/events HTTP/1.0\r\n\r\n")
        await reader.readuntil(b"event: stream.caught_up\n")
        await execution.append("custom.n", {"n": 1})
        assert b'"type":"custom.n"' in await reader.readuntil(b'"n":1}}\n\n')


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/v1/executions/x", "application/json"),
        ("/v1/executions/x/events", "text/event-stream; charset=utf-8"),
        ("/v1/executions/x/events?limit=1", "application/json"),
        ("/v1/stream?execution=x", "text/event-stream; charset=utf-8"),
        ("/readyz", "application/json"),
    ],
)
async def test_attack_60_head_answers_as_get_does_without_the_body(
    bus: Bus, client: httpx.AsyncClient, path: str, media_type: str
) -> None:
    async with bus.execution("x"):
        pass
    for _ in range(2):
        head = await client.head(path)
        assert (head.status_code, head.headers["content-type"], head.content) == (200, media_type, b"")
    # The connection is in step: nothing of a body came behind the head.
    assert (await client.get("/v1/executions/x")).json()["status"] == "completed"
    assert (await client.head("/v1/executions/unknown")).status_code == 404
    assert (await client.head("/v1/tickets")).status_code == 405


@pytest.mark.parametrize(
    "path", ["/v1/executions/x", "/v1/executions/unknown", "/v1/executions/x/events?limit=1", "/readyz"]
)
async def test_attack_39_head_and_body_of_an_answer_are_one_write(
    bus: Bus, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """A gateway that was killed between the two left a head without its body, which no proxy can ask another for."""
    written: list[bytes] = []
    transports: Any = vars(asyncio.selector_events)["_SelectorSocketTransport"]
    write = transports.write

    def recording(transport: Any, data: bytes) -> None:
        written.append(bytes(data))
        write(transport, data)

    async with bus.execution("x"):
        pass
    monkeypatch.setattr(transports, "write", recording)
    answer = await client.get(path)
    (whole,) = [data for data in written if data.startswith(b"HTTP/1.1 ")]
    assert answer.content
    assert whole.endswith(b"\r\n\r\n" + answer.content)
