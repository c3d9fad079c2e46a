"""All that reaches into uvicorn: bounds before a request, and writing to a connection past its ``send``.

uvicorn builds the same HTTP chunk, and the same WebSocket frame, anew for each viewer, in a coroutine each. Where its
connection can be seen and takes bytes, they are built once and written to all; everywhere else ``send`` is stepped.
See docs/decisions/0006-one-chunk-for-all.md. Whether uvicorn is as it is taken for here, ``check`` finds out.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import BaseTransport
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import RequestResponseCycle as H11Cycle
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import CloseCode

from tailrace.gateway.asgi.arrivals import (
    MAX_HEAD_BYTES,
    MAX_PIPELINED,
    Arrivals,
    HeadTooLargeError,
    PipelineTooLongError,
)
from tailrace.gateway.asgi.frame_budget import FloodError, FrameBudget, ReadingTurns, check_fragments
from tailrace.gateway.asgi.slim import SlimEvent, SlimQueue
from tailrace.gateway.asgi.stepping import Send, SteppedSend
from tailrace.gateway.asgi.websockets_internals import forget_parser, frame_of, is_open, is_plain
from tailrace.gateway.wire.formats import COMPRESSED, SEVERAL, Message

logger = logging.getLogger(__name__)

# Where a message keeps its frame once it has been built; servers pass over keys that they do not know.
_FRAME: Final = "tailrace.frame"
# Where a message keeps its chunk once it has been built; servers pass over keys that they do not know.
_CHUNK = "tailrace.chunk"


def is_own(send: Send) -> bool:
    """Whether it is one of uvicorn's that may be stepped outside any task; its other WebSockets wait with timeouts."""
    return isinstance(getattr(send, "__self__", None), RequestResponseCycle | H11Cycle | WebSocketsSansIOProtocol)


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

    def finish(self, message: Message) -> bool:
        if self.write(message):
            return self._close()
        self.on_drained = self._close
        return False

    def send_away(self, message: Message) -> None:
        if not self.finish(message):
            self.abort()

    def cut(self) -> None:
        self.abort()

    def _close(self) -> bool:
        self.on_drained = None
        return self.write({"type": "http.response.body", "body": b"", "more_body": False})


class FramedSend(SteppedSend):
    """A socket whose handshake is done. Everything but an open, unpaused connection of uvicorn's is stepped.

    So is what is to be compressed: that has a state of its own for each connection. Other messages go out as they are
    on the same one (RFC 7692, section 6), so that those who do not ask for it share their frames and pay nothing.
    """

    __slots__ = ("_plain", "_protocol")

    def __init__(self, send: Send) -> None:
        super().__init__(send)
        owner = getattr(send, "__self__", None)
        self._send = partial(_each, send)
        self._protocol = owner if isinstance(owner, WebSocketsSansIOProtocol) else None
        self._plain = self._protocol is None or is_plain(self._protocol.conn)

    def write(self, message: Message) -> bool:
        protocol = self._protocol
        if protocol is None or not is_open(protocol.conn) or protocol.disconnected:
            return super().write(message)
        if not protocol.writable.is_set() or (not self._plain and message.get(COMPRESSED)):
            return super().write(message)
        frame = message.get(_FRAME)
        if frame is None:
            if message["type"] != "websocket.send":
                return super().write(message)
            several = message.get(SEVERAL)
            frame = message[_FRAME] = frame_of(message) if several is None else b"".join(map(frame_of, several))
        protocol.transport.write(frame)
        return True


async def _each(send: Send, message: Message) -> None:
    """Send a message, or those that stand in its place."""
    for each in message.get(SEVERAL, (message,)):
        await send(each)


class WholeCycle(RequestResponseCycle):
    """An answer of known length goes out in one piece.

    A process that is killed between two writes leaves a head without its body, and no proxy can ask another then.
    """

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start" and self._has_length(message) and not self._is_bodiless(message):
            self.transport = cast("Any", HeldHead(self))
        await super().send(message)

    def _has_length(self, message: Any) -> bool:
        return any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))

    def _is_bodiless(self, message: Any) -> bool:
        return self.scope["method"] == "HEAD" or message["status"] in {204, 304}


class UnchunkedCycle(WholeCycle):
    """The answer to an HTTP/1.0 client, which knows no chunks (RFC 9112, section 7.1): it ends with the connection."""

    unbounded = False

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.unbounded = not self._has_length(message)
            if self.unbounded:
                self.chunked_encoding = False
        elif self.unbounded:
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


class HeldHead:
    """In place of a cycle's transport until the body comes: what is written first waits for what is written next."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._transport = cycle.transport
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        if self._head is None:
            self._head = data
        else:
            self._cycle.transport = self._transport
            self._transport.write(self._head + data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


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

    What it has beside uvicorn's is a slot: an attribute more would cost each connection more than a kilobyte.
    """

    # Under which address it is counted, while it has no request in the application.
    __slots__ = ("_waits_as",)

    arrivals: Arrivals

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.pipeline = SlimQueue()  # type: ignore[assignment]
        self._waits_as: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = SlimFlow(transport)
        self.arrivals.expect(self)
        self._wait(self.arrivals.refusals.too_many)

    def connection_lost(self, exc: Exception | None) -> None:
        self.arrivals.arrived(self)
        self._stop_waiting()
        super()._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._parse(data)
        # By now the parser has told us of a head that is complete.
        self.arrivals.received(self, len(data))

    def _unset_keepalive_if_required(self) -> None:
        """Not at any byte, as uvicorn has it: a byte now and then would prolong the idle time. A request ends it."""

    def _parse(self, data: bytes) -> None:
        """As uvicorn does, but for offers of other protocols."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            elif self._is_offer():
                self._parse(self._without_offer() + data[upgrade.args[0] :])
            else:
                self._unsupported_upgrade_warning()
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        # The parser holds us, and nobody tells us when the connection is lost: a cycle for the collector otherwise.
        self.parser = None  # type: ignore[assignment]

    def _is_offer(self) -> bool:
        """Whether another protocol than WebSocket is offered, which a server may ignore (RFC 9110, section 7.8).

        Java's client offers h2c. The parser takes what follows such a head for that protocol, not for the body.
        """
        return self.parser.should_upgrade() and not self._should_upgrade() and self.parser.get_method() != b"CONNECT"

    def _without_offer(self) -> bytes:
        """The head once more, without the offer, for a parser that has seen nothing yet."""
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def on_message_begin(self) -> None:
        super().on_message_begin()
        super()._unset_keepalive_if_required()
        self.arrivals.expect(self)

    def on_headers_complete(self) -> None:
        if self._is_offer():
            return
        if len(self.pipeline) >= MAX_PIPELINED:
            self.arrivals.count("pipelines_too_long")
            raise PipelineTooLongError(f"more than {MAX_PIPELINED} requests before the first was answered")
        super()._unset_keepalive_if_required()
        self.arrivals.arrived(self)
        self._stop_waiting()
        # One that came all at once was not counted as it arrived.
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self.arrivals.count("request_heads_too_large")
            self.refuse(self.arrivals.refusals.too_large)
            raise HeadTooLargeError
        before = self.cycle
        super().on_headers_complete()
        # There is none for a request that is going to be a WebSocket. A new one's event has not been looked at yet.
        if self.cycle is not before:
            self.cycle.message_event = SlimEvent()  # type: ignore[assignment]
            self.cycle.__class__ = UnchunkedCycle if self.scope["http_version"] == "1.0" else WholeCycle

    def on_message_complete(self) -> None:
        if not self._is_offer():
            super().on_message_complete()
            self.arrivals.arrived(self)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not (self._is_answering or self.transport.is_closing()):
            if self.cycle.more_body:
                self.arrivals.expect(self, is_body=True)
            self._wait()

    def send_400_response(self, msg: str) -> None:
        del msg
        self.refuse(self.arrivals.refusals.malformed)

    @property
    def _is_answering(self) -> bool:
        # Before the first request there is none, whatever uvicorn's annotation says.
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def refuse(self, answer: bytes) -> None:
        """Close, with an answer where no request is being answered."""
        if self.transport.is_closing():
            return
        if answer and not self._is_answering:
            self.transport.write(answer)
        self.transport.close()

    def _wait(self, refusal: bytes = b"") -> None:
        address = self.arrivals.address_of(self.client[0] if self.client else None)
        if self._waits_as is not None or address is None:
            return
        if self.arrivals.enter(address):
            self._waits_as = address
        else:
            self.refuse(refusal)

    def _stop_waiting(self) -> None:
        if self._waits_as is not None:
            self.arrivals.leave(self._waits_as)
            self._waits_as = None


def bound_to(arrivals: Arrivals) -> type[HeadBoundProtocol]:
    """The protocol for ``uvicorn.Config``, which makes it by itself and gives it nothing of ours."""
    members: dict[str, Any] = {"arrivals": arrivals, "__slots__": ()}
    return type("HeadBoundProtocol", (HeadBoundProtocol,), members)


class BudgetedSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol, with bounds for what a client sends. See ``budgeted``.

    What it has beside uvicorn's is a slot: an attribute more would cost each connection more than a kilobyte.
    """

    __slots__ = ("_budget",)

    turns: ReadingTurns
    count: Callable[[str], None]

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self._budget = FrameBudget(self.loop.time())

    def connection_lost(self, exc: Exception | None) -> None:
        self._budget.unread = b""
        self.turns.forget(self)
        super().connection_lost(exc)
        forget_parser(self.conn)

    def data_received(self, data: bytes) -> None:
        if not self.handshake_initiated:
            super().data_received(data)
            return
        is_waiting = bool(self._budget.unread)
        self._budget.unread += data
        if is_waiting:
            self._read_on_later()
        else:
            self.read_turn()

    def read_turn(self) -> None:
        try:
            frames = self._budget.next_turn(self.loop.time())
            super().data_received(frames)
            check_fragments(len(self.frames))
        except FloodError as error:
            self._refuse(error)
        else:
            self._read_on_later()

    async def receive(self) -> Any:
        message = await super().receive()
        self._read_on_later()
        return message

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not self.close_sent:
            text = b"".join(self.frames)
            if not text.isascii():
                try:
                    text.decode()
                except UnicodeDecodeError as error:
                    # uvicorn would log the traceback of what a client has sent.
                    self.frames = []
                    self.count("ws_malformed_frames")
                    self._fail(CloseCode.INVALID_DATA, f"text that is not UTF-8: {error.reason} at byte {error.start}")
                    return
            self.frames = [text]
        super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:
            # Pongs to a client that does not read would fill memory; the last ping is answered when it does.
            self._budget.pongs = self.conn.data_to_send()[-1:]

    def resume_writing(self) -> None:
        super().resume_writing()
        pongs, self._budget.pongs = self._budget.pongs, []
        if pongs and not self.transport.is_closing():
            self.transport.write(b"".join(pongs))

    def _read_on_later(self) -> None:
        """Go on when the application has taken what was read."""
        if self.read_paused or self.transport.is_closing():
            return
        if self._budget.unread:
            self.transport.pause_reading()
            self.turns.wait(self)
        else:
            self.transport.resume_reading()

    def _refuse(self, error: FloodError) -> None:
        self.count("ws_floods")
        logger.warning("closing a WebSocket that floods: %s", error)
        self._fail(CloseCode.POLICY_VIOLATION, str(error))

    def _fail(self, code: CloseCode, reason: str) -> None:
        self._budget.unread = b""
        self.conn.fail(code, reason)
        if self.conn.close_sent is None or not self.writable.is_set():
            self.transport.abort()
        else:
            self.handle_parser_exception()


def budgeted(count: Callable[[str], None]) -> type[BudgetedSocketProtocol]:
    """The protocol for ``uvicorn.Config``, as ``bound_to``."""
    members: dict[str, Any] = {"turns": ReadingTurns(), "count": staticmethod(count), "__slots__": ()}
    return type("BudgetedSocketProtocol", (BudgetedSocketProtocol,), members)


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
