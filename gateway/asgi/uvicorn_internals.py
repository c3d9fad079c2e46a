"""All that reaches into uvicorn: bounds before a request, and writing to a connection past its ``send``.

uvicorn builds the same HTTP chunk, and the same WebSocket frame, anew for each viewer, in a coroutine each. Where its
connection can be seen and takes bytes, they are built once and written to all; everywhere else ``send`` is stepped.
See docs/decisions/0006-one-chunk-for-all.md. Whether uvicorn is as it is taken for here, ``check`` finds out.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, cast

from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from tailrace.gateway.asgi.arrivals import Arrivals
from tailrace.gateway.asgi.slim import SlimEvent, SlimQueue
from tailrace.gateway.asgi.stepping import Send, SteppedSend
from tailrace.gateway.asgi.websockets_internals import frame_of, is_open, is_plain
from tailrace.gateway.wire.formats import Message

# Where a message keeps its frame once it has been built; servers pass over keys that they do not know.
_FRAME: Final = "tailrace.frame"
# Where a message keeps its chunk once it has been built; servers pass over keys that they do not know.
_CHUNK = "tailrace.chunk"


class AsgiSink(SteppedSend):
    """One viewer's connection, its response already begun.

    uvicorn builds the same HTTP chunk anew for each viewer, in a coroutine each. Where its connection can be seen, is
    chunked and takes bytes, the chunk is built once and written to all; everywhere else ``send`` is stepped. See
    docs/decisions/0006-one-chunk-for-all.md.
    """

    __slots__ = ("_cycle",)

    def __init__(self, send: Send) -> None:
        super().__init__(send)
        cycle = getattr(send, "__self__", None)
        self._cycle = cycle if isinstance(cycle, RequestResponseCycle) and cycle.chunked_encoding else None

    def write(self, message: Message) -> bool:
        cycle = self._cycle
        if cycle is None or cycle.flow.write_paused or cycle.disconnected or cycle.response_complete:
            return super().write(message)
        chunk = message.get(_CHUNK)
        if chunk is None:
            body = message["body"]
            if not body or not message["more_body"]:
                return super().write(message)
            chunk = message[_CHUNK] = b"%x\r\n%b\r\n" % (len(body), body)
        cycle.transport.write(chunk)
        return True

    def finish(self, message: Message) -> None:
        if self.write(message):
            self._close()
        else:
            self.on_drained = self._close

    def send_away(self, message: Message) -> None:
        self.finish(message)

    def cut(self) -> None:
        self.abort()

    def _close(self) -> None:
        self.on_drained = None
        self.write({"type": "http.response.body", "body": b"", "more_body": False})


class FramedSend(SteppedSend):
    """A socket whose handshake is done. Everything but an open, unpaused connection of uvicorn's is stepped."""

    __slots__ = ("_protocol",)

    def __init__(self, send: Send) -> None:
        super().__init__(send)
        owner = getattr(send, "__self__", None)
        # An extension, as for compression, has a state of its own for each connection.
        plain = isinstance(owner, WebSocketsSansIOProtocol) and is_plain(owner.conn)
        self._protocol: WebSocketsSansIOProtocol | None = owner if plain else None

    def write(self, message: Message) -> bool:
        protocol = self._protocol
        if protocol is None or not is_open(protocol.conn) or protocol.disconnected:
            return super().write(message)
        if not protocol.writable.is_set():
            return super().write(message)
        frame = message.get(_FRAME)
        if frame is None:
            if message["type"] != "websocket.send":
                return super().write(message)
            frame = message[_FRAME] = frame_of(message)
        protocol.transport.write(frame)
        return True


class SlimFlow(FlowControl):
    def __init__(self, transport: asyncio.Transport) -> None:
        # Not super().__init__(), whose event is what this is about.
        self._transport = transport
        self.read_paused = False
        self.write_paused = False
        self._is_writable_event = SlimEvent()  # type: ignore[assignment]
        self._is_writable_event.set()


class HeadBoundProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with bounds for what comes before it asks the application, and slimmer. See ``bound_to``.

    It has no attributes of its own: one more than uvicorn's would cost each connection more than a kilobyte.
    """

    arrivals: Arrivals

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.pipeline = SlimQueue()  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = SlimFlow(transport)
        self.arrivals.expect(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.arrivals.arrived(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # By now the parser has told us of a head that is complete.
        self.arrivals.received(self, len(data))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.arrivals.expect(self)

    def on_headers_complete(self) -> None:
        self.arrivals.arrived(self)
        before = self.cycle
        super().on_headers_complete()
        # There is none for a request that is going to be a WebSocket. A new one's event has not been looked at yet.
        if self.cycle is not before:
            self.cycle.message_event = SlimEvent()  # type: ignore[assignment]

    def refuse(self, answer: bytes) -> None:
        """Close, with an answer where no request is being answered."""
        # Before the first request there is none, whatever uvicorn's annotation says.
        cycle: RequestResponseCycle | None = self.cycle
        if answer and (cycle is None or cycle.response_complete):
            self.transport.write(answer)
        self.transport.close()


def bound_to(arrivals: Arrivals) -> type[HeadBoundProtocol]:
    """The protocol for ``uvicorn.Config``, which makes it by itself and gives it nothing of ours."""
    members: dict[str, Any] = {"arrivals": arrivals}
    return type("HeadBoundProtocol", (HeadBoundProtocol,), members)


def forget_handshake(send: Send) -> None:
    """Let go of the headers of request and response, which uvicorn keeps as long as the socket: 5 KB each time."""
    connection = getattr(send, "__self__", None)
    for name in ("request", "response"):
        headers = getattr(getattr(connection, name, None), "headers", None)
        if headers is not None:
            headers.clear()


async def check() -> None:
    """Write a chunk in both ways, and look at what a socket has. Raises whatever is not as it is written here."""
    written = []
    for direct in (False, True):
        recorder = _Recorder()
        cycle = _cycle(recorder)
        await cycle.send({"type": "http.response.start", "status": 200, "headers": []})
        recorder.written = b""
        message: Message = {"type": "http.response.body", "body": b"x", "more_body": True}
        if direct:
            sink = AsgiSink(cast("Send", cycle.send))
            if not sink.write(message) or _CHUNK not in message:
                raise ValueError("uvicorn's response cannot be written to directly")
        else:
            await cycle.send(cast("Any", message))
        written.append(recorder.written)
    if written[0] != written[1]:
        raise ValueError("uvicorn writes other chunks")
    config = Config(_no_app, log_config=None, ws="websockets-sansio", lifespan="off")
    config.load()
    socket = WebSocketsSansIOProtocol(config, ServerState(), {})
    is_open(socket.conn)
    if not is_plain(socket.conn) or not socket.writable.is_set() or socket.disconnected or socket.transport is not None:
        raise ValueError("uvicorn's socket is not as expected")


class _Recorder:
    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data


async def _no_app(scope: Any, receive: Any, send: Any) -> None:
    del scope, receive, send


def _cycle(recorder: _Recorder) -> RequestResponseCycle:
    logger = logging.getLogger(__name__)
    return RequestResponseCycle(
        scope=cast("Any", {"type": "http", "method": "GET", "http_version": "1.1", "path": "/"}),
        transport=cast("Any", recorder),
        flow=SlimFlow(cast("Any", recorder)),
        logger=logger,
        access_logger=logger,
        access_log=False,
        default_headers=[],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=True,
        on_response=lambda: None,
    )
