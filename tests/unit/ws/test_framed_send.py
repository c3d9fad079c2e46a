"""Writing past uvicorn's ``send`` gives the same bytes as going through it, and stops where it must."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from uvicorn import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from bench.load.frames import CLOSE, masked, upgrade
from tailrace.gateway.asgi.uvicorn_internals import FramedSend
from tailrace.gateway.wire.formats import COMPRESSED, Message
from tailrace.gateway.wire.socket_formats import WS_JSON, WS_MSGPACK
from tests.patience import patient

pytestmark = pytest.mark.anyio


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written = b""
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def opened(*, deflate: bool = False) -> tuple[WebSocketsSansIOProtocol, FakeTransport]:
    """uvicorn's own connection behind a handshake, whose application does nothing."""
    accepted = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        accepted.set()
        while (await receive())["type"] != "websocket.disconnect":
            pass

    config = Config(app, ws="websockets-sansio", ws_ping_interval=None, ws_per_message_deflate=deflate, log_config=None)
    config.load()
    protocol = WebSocketsSansIOProtocol(config, ServerState(), {})
    transport = FakeTransport()
    protocol.connection_made(transport)
    offered = {"Sec-WebSocket-Extensions": "permessage-deflate"} if deflate else {}
    protocol.data_received(upgrade("127.0.0.1", "/", "", offered))
    await asyncio.wait_for(accepted.wait(), patient(5))
    transport.written = b""
    return protocol, transport


def send_of(protocol: WebSocketsSansIOProtocol) -> FramedSend:
    return FramedSend(cast("Any", protocol.send))


def text(size: int) -> Message:
    return WS_JSON.message(WS_JSON.piece({"op": "pong", "id": "é" * size}))


@pytest.mark.parametrize("size", [1, 60, 200, 40_000])
@pytest.mark.parametrize("rendering", [WS_JSON, WS_MSGPACK], ids=lambda rendering: rendering.name)
async def test_the_bytes_are_those_that_send_would_have_written(rendering: Any, size: int) -> None:
    stepped, through_send = await opened()
    direct, past_send = await opened()
    members = {"op": "pong", "id": "é" * size}
    await stepped.send(cast("Any", rendering.message(rendering.piece(members))))
    assert send_of(direct).write(rendering.message(rendering.piece(members)))
    assert past_send.written == through_send.written != b""


async def test_the_frame_is_built_once_for_all_viewers_of_a_message() -> None:
    message = text(5)
    frames = set()
    for _ in range(3):
        protocol, transport = await opened()
        send_of(protocol).write(message)
        frames.add(transport.written)
        del message["text"]
        message["text"] = "never looked at again"
    assert len(frames) == 1


async def test_a_paused_socket_holds_the_message_until_it_drains() -> None:
    protocol, transport = await opened()
    sending = send_of(protocol)
    drained = asyncio.Event()
    sending.on_drained = drained.set
    protocol.pause_writing()
    assert not sending.write(text(5))
    assert transport.written == b""
    protocol.resume_writing()
    await asyncio.wait_for(drained.wait(), patient(5))
    assert transport.written
    assert sending.write(text(5))


async def test_nothing_is_written_behind_a_close_frame_and_the_loss_is_told() -> None:
    protocol, transport = await opened()
    sending = send_of(protocol)
    lost = asyncio.Event()
    sending.on_lost = lost.set
    protocol.data_received(masked(CLOSE, b"\x03\xe8"))
    written = transport.written
    assert not sending.write(text(5))
    assert transport.written == written
    await asyncio.wait_for(lost.wait(), patient(5))


async def test_nothing_is_written_to_a_connection_that_is_lost() -> None:
    protocol, transport = await opened()
    protocol.connection_lost(None)
    assert not send_of(protocol).write(text(5))
    assert transport.written == b""


async def test_what_is_to_be_compressed_goes_through_send_and_the_rest_is_as_anywhere() -> None:
    protocol, transport = await opened(deflate=True)
    assert send_of(protocol).write({**text(2000), COMPRESSED: True})
    assert 0 < len(transport.written) < 500
    compressed = len(transport.written)
    plain, plain_transport = await opened()
    assert send_of(protocol).write(text(2000))
    assert send_of(plain).write(text(2000))
    assert transport.written[compressed:] == plain_transport.written


async def test_a_server_that_is_not_uvicorns_is_stepped() -> None:
    got: list[Message] = []

    async def send(message: Message) -> None:
        got.append(message)

    message = text(1)
    assert FramedSend(send).write(message)
    assert got == [message]
