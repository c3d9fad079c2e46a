"""Writing past uvicorn's ``send`` gives the same bytes as going through it, and stops where it must."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from tailrace.gateway.asgi.uvicorn_internals import AsgiSink
from tailrace.gateway.wire.formats import Message
from tests.patience import patient

pytestmark = pytest.mark.anyio


class FakeTransport:
    def __init__(self) -> None:
        self.written = b""
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None: ...

    def abort(self) -> None:
        self.aborted = True

    def resume_reading(self) -> None: ...


def connection(http_version: str = "1.1") -> tuple[RequestResponseCycle, FakeTransport, FlowControl]:
    transport = FakeTransport()
    flow = FlowControl(cast("Any", transport))
    cycle = RequestResponseCycle(
        scope=cast("Any", {"type": "http", "method": "GET", "http_version": http_version, "path": "/"}),
        transport=cast("Any", transport),
        flow=flow,
        logger=logging.getLogger("test"),
        access_logger=logging.getLogger("test"),
        access_log=False,
        default_headers=[],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=True,
        on_response=lambda: None,
    )
    return cycle, transport, flow


def body(frames: bytes) -> Message:
    return {"type": "http.response.body", "body": frames, "more_body": True}


async def begin(cycle: RequestResponseCycle, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    await cycle.send(cast("Any", {"type": "http.response.start", "status": 200, "headers": headers or []}))


@pytest.mark.parametrize("frames", [b"x", b"id: 1-1\ndata: {}\n\n", b"y" * 70_000])
async def test_the_bytes_are_those_that_send_would_have_written(frames: bytes) -> None:
    stepped, through_send, _ = connection()
    direct, past_send, _ = connection()
    await begin(stepped)
    await begin(direct)
    await stepped.send(cast("Any", body(frames)))
    assert AsgiSink(cast("Any", direct.send)).write(body(frames))
    assert past_send.written == through_send.written


async def test_the_chunk_is_built_once_for_all_viewers_of_a_message() -> None:
    message = body(b"shared")
    ends = []
    for _ in range(3):
        cycle, transport, _ = connection()
        await begin(cycle)
        AsgiSink(cast("Any", cycle.send)).write(message)
        ends.append(transport.written.endswith(b"6\r\nshared\r\n"))
    chunks = [value for key, value in message.items() if key not in {"type", "body", "more_body"}]
    assert ends == [True] * 3
    assert chunks == [b"6\r\nshared\r\n"]


async def test_a_paused_transport_holds_the_write_until_it_drains() -> None:
    cycle, transport, flow = connection()
    await begin(cycle)
    sink = AsgiSink(cast("Any", cycle.send))
    drained = asyncio.Event()
    sink.on_drained = drained.set
    before = transport.written
    flow.pause_writing()
    assert not sink.write(body(b"late"))
    assert transport.written == before
    flow.resume_writing()
    await asyncio.wait_for(drained.wait(), patient(5))
    assert transport.written == before + b"4\r\nlate\r\n"


async def test_nothing_is_written_once_the_client_has_gone_or_the_response_is_complete() -> None:
    cycle, transport, _ = connection()
    await begin(cycle)
    sink = AsgiSink(cast("Any", cycle.send))
    cycle.disconnected = True
    before = transport.written
    assert sink.write(body(b"x"))
    assert transport.written == before


async def test_finishing_ends_the_chunked_body() -> None:
    cycle, transport, _ = connection()
    await begin(cycle)
    AsgiSink(cast("Any", cycle.send)).finish(body(b"end"))
    assert transport.written.endswith(b"3\r\nend\r\n0\r\n\r\n")
    assert cycle.response_complete


async def test_a_response_that_is_not_chunked_goes_through_send() -> None:
    """As HTTP/1.0 clients and fixed lengths have it."""
    cycle, transport, _ = connection()
    await begin(cycle, [(b"content-length", b"5")])
    assert AsgiSink(cast("Any", cycle.send)).write(body(b"12345"))
    assert transport.written.endswith(b"\r\n\r\n12345")


async def test_any_other_send_is_stepped() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    assert AsgiSink(send).write(body(b"x"))
    assert [message["body"] for message in sent] == [b"x"]
