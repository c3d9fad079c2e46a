"""A WebSocket in a route of the application's own: its messages, its wire, and our subscriptions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Self

from starlette.types import Receive
from starlette.websockets import WebSocket, WebSocketState

from tailrace.bus.errors import BusError, InvalidInputError
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import START, Cursor
from tailrace.bus.model.event import check_execution_id
from tailrace.bus.model.filter import Filter
from tailrace.bus.model.numbers import load_json
from tailrace.gateway.access.access import Registration
from tailrace.gateway.access.own_route import OwnRouteAccess
from tailrace.gateway.asgi.starlette_internals import send_of
from tailrace.gateway.asgi.uvicorn_internals import FramedSend
from tailrace.gateway.context import GatewayContext
from tailrace.gateway.http.problems import ProblemError, problem_of
from tailrace.gateway.limits.sockets import MAX_FRAME_BYTES, MAX_MALFORMED
from tailrace.gateway.presence.live_connections import ConnectionEnding
from tailrace.gateway.streams.close_codes import CloseCode, close_code_of
from tailrace.gateway.streams.opening import rest_of
from tailrace.gateway.streams.own_routes import Merge, own_filter, place_of
from tailrace.gateway.streams.parameters import StreamParameters
from tailrace.gateway.streams.socket_connection import SocketConnection
from tailrace.gateway.streams.waiting import SentAwayError, check_wait, meanwhile, open_or_begun
from tailrace.gateway.streams.writing import written_to
from tailrace.gateway.wire.formats import Message
from tailrace.gateway.wire.own import OwnSocket
from tailrace.gateway.wire.wire import Frame

# What a client is given to take the last messages.
CLOSING_SECONDS: Final = 10.0
# Of an id that somebody made up.
MAX_SHOWN_CHARS: Final = 128
_NO_PARAMETERS: Final = StreamParameters()


class Session:
    """Entered, it accepts the socket; iterated over, it gives what the client says, until that has left.

    async with gateway.session(socket, wire=PlanMessages()) as session:
        async for message in session:
            match message:
                case {"action": "subscribe", "plan_id": str(plan)}:
                    await session.subscribe(plan, after=message.get("after"))
    """

    def __init__(
        self,
        gateway: GatewayContext,
        socket: WebSocket,
        rendering: OwnSocket,
        access: OwnRouteAccess,
        subprotocol: str | None = None,
    ) -> None:
        self._gateway = gateway
        self._socket = socket
        self._rendering = rendering
        self._access = access
        self._only: str | None = None
        self._subprotocol = subprotocol
        self._malformed = 0
        self._stack = AsyncExitStack()
        self._connection: SocketConnection[OwnSocket]
        self._registration: Registration
        self._receive: Receive

    async def __aenter__(self) -> Self:
        """Raises ProblemError where there are too many connections, before the socket is accepted."""
        await self._access.enter()
        if self._socket.application_state is WebSocketState.CONNECTING:
            await self._socket.accept(self._subprotocol)
        heard, written = await self._stack.enter_async_context(
            written_to(self._gateway, self._socket.receive, send_of(self._socket), "websocket.disconnect")
        )
        self._receive = heard
        self._connection = SocketConnection(FramedSend(written), self._gateway.hub, self._rendering, only=self._only)
        self._registration = self._access.register("websocket", self._connection, self._dismiss)
        if self._gateway.draining:
            self._connection.close(CloseCode.DRAINING)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._connection.close(CloseCode.DONE if error is None else CloseCode.INTERNAL_ERROR)
            async with asyncio.timeout(CLOSING_SECONDS):
                await self._connection.replied()
        except TimeoutError:
            # It takes nothing.
            self._connection.abort()
        finally:
            self._connection.over()
            self._registration.leave()
            # It holds us.
            del self._registration
            await self._stack.aclose()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._messages()

    async def _messages(self) -> AsyncIterator[Any]:
        async for message in self._received():
            if self._connection.closing:
                continue
            try:
                parsed = _parsed(message)
            except InvalidInputError as error:
                self._gateway.hub.count("ws_malformed_frames")
                await self.tell_error(error)
                self._malformed += 1
                if self._malformed >= MAX_MALFORMED:
                    self._connection.close(CloseCode.TOO_MANY_MALFORMED)
            else:
                self._malformed = 0
                yield parsed

    async def _received(self) -> AsyncIterator[Message]:
        while (message := await self._receive())["type"] != "websocket.disconnect":
            yield message

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """The executions whose events come over this socket."""
        return self._connection.executions

    async def subscribe(
        self,
        execution: str,
        *,
        after: Cursor | str | None = None,
        types: Sequence[str] | None = None,
        step: str | None = None,
        mode: str | None = None,
        coalesce_ms: int = 0,
        merge: Merge | None = None,
        compress: bool = False,
        reply: Frame | None = None,
        wait_for_start: float = 0.0,
    ) -> None:
        """Give the client an execution's events after a cursor: one that the wire has written, ``"tail"``, or all.

        ``reply`` goes before the first of them. One that is subscribed to already begins anew at the cursor. With
        ``compress`` its messages are compressed, where client and server have agreed that they can. An execution that
        is not there is waited for, ``wait_for_start`` seconds (at most 300): call it in a task of its own, to hear the
        client meanwhile. Raises InvalidInputError, ExecutionUnknownError, BusUnavailableError, ProblemError for one
        that has not begun in time; ``tell_error`` answers the client with them.
        """
        place = place_of(_NO_PARAMETERS, self._rendering, check_execution_id(execution), after)
        wanted = own_filter(types, step, mode, coalesce_ms, merge)
        seconds = check_wait(wait_for_start)
        await self._subscribe(execution, place, wanted, coalesce_ms, reply, wait_for_start=seconds, compress=compress)

    async def _subscribe(
        self,
        execution: str,
        place: tuple[Cursor | None, int],
        wanted: Filter | None,
        coalesce_ms: int,
        reply: Frame | None = None,
        *,
        wait_for_start: float = 0.0,
        compress: bool = False,
    ) -> None:
        gateway, connection = self._gateway, self._connection
        cursor, seen = place
        most = gateway.settings.max_subscriptions
        if execution not in connection.subscriptions and len(connection.subscriptions) >= most:
            raise InvalidInputError("execution", f"a socket has at most {most} subscriptions")
        try:
            topic, hold = await open_or_begun(gateway.hub, self._access, execution, wait_for_start)
        except SentAwayError:
            connection.close(CloseCode.DRAINING)
            return
        rest = b""
        if seen and cursor is not None:
            cursor, rest = await rest_of(gateway, execution, cursor, self._rendering, seen)
        if not connection.closing:
            if execution in connection.subscriptions:
                connection.unsubscribe(execution)
            if cursor is not None and cursor != START:
                gateway.hub.count("resumes")
            lead = (b"" if reply is None else self._rendering.frame(reply)) + rest
            connection.subscribe(
                topic,
                Numbering.after(topic.head if cursor is None else cursor),
                wanted=wanted,
                coalesce_ms=coalesce_ms,
                reply=self._rendering.message(lead) if lead else None,
                compress=compress,
            )
            hold.release()
            await connection.replied()

    async def unsubscribe(self, execution: str) -> bool:
        """False where there was no such subscription, or it has ended."""
        if execution not in self._connection.subscriptions:
            return False
        self._connection.unsubscribe(execution)
        return True

    async def send(self, message: Frame) -> None:
        """Say something of the application's own; returns when it is on its way. Raises InvalidInputError."""
        await self._connection.reply(self._rendering.message(self._rendering.frame(message)))

    async def tell_error(self, error: Exception, execution: str | None = None) -> str:
        """Answer the client with an error of ours, in the wire's words; gives its code. Raises what is none of ours."""
        problem = problem_of(error)
        payload = {"code": problem.code, "detail": problem.detail}
        if execution is not None:
            payload["execution_id"] = execution
        await self._connection.reply(self._rendering.message(self._rendering.control("stream.error", payload)))
        return problem.code

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close well, behind everything that has been said."""
        self._connection.close_with({"type": "websocket.close", "code": code, "reason": reason})

    async def serve_one(
        self,
        execution: str,
        parameters: StreamParameters,
        after: Cursor | str | None,
        filters: Mapping[str, Any],
        *,
        wait_for_start: float,
        compress: bool,
    ) -> None:
        """Be for one execution: subscribe to it, and stay until it has ended or the client has left.

        Raises ProblemError before the socket is accepted.
        """
        self._only = execution

        async def begin() -> None:
            try:
                check_execution_id(execution, field="execution")
                place = place_of(parameters, self._rendering, execution, after)
                wanted, coalesce_ms = own_filter(**filters), filters["coalesce_ms"]
                seconds = check_wait(wait_for_start)
                await self._subscribe(execution, place, wanted, coalesce_ms, wait_for_start=seconds, compress=compress)
            except (BusError, ProblemError) as error:
                code = await self.tell_error(error, execution[:MAX_SHOWN_CHARS])
                self._connection.close(close_code_of(code), code)

        # That the client leaves is heard meanwhile.
        async with self, meanwhile(begin(), lambda: self._connection.close(CloseCode.INTERNAL_ERROR)):
            async for _ in self._received():
                pass

    def _dismiss(self, ending: ConnectionEnding) -> None:
        payload = {"code": ending.code, "detail": ending.detail}
        message = self._rendering.message(self._rendering.control("stream.error", payload))
        self._connection.end(message, CloseCode.TOKEN_ENDED, ending.code)


def _parsed(message: Message) -> Any:
    """Raises InvalidInputError."""
    text = message.get("text")
    if text is None:
        raise InvalidInputError("message", "is binary; this socket takes text with one JSON value")
    if len(text) > MAX_FRAME_BYTES:
        raise InvalidInputError("message", f"has more than {MAX_FRAME_BYTES} bytes")
    try:
        return load_json(text)
    except InvalidInputError:
        raise
    except ValueError as error:
        raise InvalidInputError("message", f"is not one JSON value: {error}"[:200]) from None
