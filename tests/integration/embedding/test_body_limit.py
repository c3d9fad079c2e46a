"""Large bodies on routes of an application's own, refused by ``BodyLimit``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, WebSocket
from websockets.asyncio.client import connect

from tailrace import BodyLimit
from tests.integration.embedding.served import serving
from tests.patience import patient

pytestmark = pytest.mark.anyio


@pytest.fixture
async def address() -> AsyncGenerator[str, None]:
    app = FastAPI()
    app.add_middleware(BodyLimit, max_bytes=1000)

    @app.post("/echo")
    async def echo(body: dict[str, Any]) -> int:
        return len(body["text"])

    @app.websocket("/socket")
    async def socket(connection: WebSocket) -> None:
        await connection.accept()
        await connection.send_text(await connection.receive_text())
        await connection.close()

    async with serving(app) as given, asyncio.timeout(patient(20)):
        yield given


def text_of(size: int) -> bytes:
    return b'{"text": "%s"}' % (b"x" * size)


async def in_chunks(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), 500):
        yield body[start : start + 500]


async def test_a_large_body_is_refused_and_the_client_reads_why(address: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://{address}") as client:
        refused = await client.post("/echo", content=b"x" * 10_000_000)
    assert (refused.status_code, refused.headers["connection"]) == (413, "close")
    assert refused.json() == {
        "type": "about:blank",
        "title": "Request Entity Too Large",
        "status": 413,
        "code": "body_too_large",
        "detail": "the body has 10000000 bytes or more, the limit is 1000",
        "field": "body",
        "size_bytes": 10_000_000,
        "limit_bytes": 1000,
    }


async def test_a_large_body_of_undeclared_length_is_refused_where_it_is_read(address: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://{address}") as client:
        headers = {"Content-Type": "application/json"}
        refused = await client.post("/echo", content=in_chunks(text_of(5000)), headers=headers)
        small = await client.post("/echo", content=in_chunks(text_of(600)), headers=headers)
    assert refused.status_code == 413
    assert refused.json()["detail"].endswith("the limit is 1000")
    assert (small.status_code, small.json()) == (200, 600)


async def test_what_is_within_the_limit_passes(address: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://{address}") as client:
        assert (await client.post("/echo", content=text_of(985), headers={"Content-Type": "application/json"})).json()
    async with connect(f"ws://{address}/socket") as socket:
        await socket.send("x" * 2000)
        assert await socket.recv() == "x" * 2000


async def test_a_client_that_asks_first_is_refused_before_it_sends(address: str) -> None:
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 413")
    writer.close()


async def test_a_client_that_declares_a_body_and_leaves_is_forgotten(address: str) -> None:
    host, port = address.split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\nsome")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    async with httpx.AsyncClient(base_url=f"http://{address}") as client:
        assert (await client.post("/echo", json={"text": ""})).status_code == 200
