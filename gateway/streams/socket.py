"""The ops of one socket, one after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from tailrace.bus import BusError, InvalidInputError
from tailrace.bus.model.codec import ts_of
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import START, TAIL, Cursor, parse
from tailrace.bus.model.event import check_execution_id
from tailrace.bus.model.filter import Filter
from tailrace.gateway.access.access import Access
from tailrace.gateway.context import GatewayContext
from tailrace.gateway.http.problems import ProblemError, problem_of
from tailrace.gateway.limits.sockets import MAX_FRAME_BYTES, MAX_MALFORMED
from tailrace.gateway.presence.live_connections import ConnectionEnding
from tailrace.gateway.streams.close_codes import CloseCode, close_code_of
from tailrace.gateway.streams.parameters import make_filter
from tailrace.gateway.streams.socket_connection import SocketConnection
from tailrace.gateway.streams.socket_ops import (
    Asks,
    AuthOp,
    Op,
    OpError,
    PingOp,
    RequestId,
    SubscribeOp,
    UnsubscribeOp,
    check_op,
)
from tailrace.gateway.streams.waiting import SentAwayError, meanwhile, open_or_begun
from tailrace.gateway.wire.formats import Message
from tailrace.gateway.wire.socket_formats import SocketFormat

Receive = Callable[[], Awaitable[Message]]

_MAX_SHOWN_CHARS: Final = 128


@dataclass(frozen=True, slots=True)
class Wanted:
    """A subscription, checked. ``cursor`` None means the present head."""

    execution_id: str
    cursor: Cursor | None
    filter: Filter | None
    coalesce_ms: int
    wait_for_start: float = 0.0
    compress: bool = False


class Socket:
    def __init__(self, gateway: GatewayContext, connection: SocketConnection[SocketFormat], access: Access) -> None:
        self._gateway = gateway
        self._connection = connection
        self._access = access
        self._malformed = 0

    async def serve(self, receive: Receive, only: Wanted | InvalidInputError | None = None) -> None:
        """Do what the client says until it leaves; ``only`` is what it has said already, by the socket's URL."""
        connection = self._connection
        self._registration = self._access.register("websocket", connection, self._dismiss)
        try:
            if isinstance(only, Wanted) and only.wait_for_start:
                async with meanwhile(self._watch_only(only), partial(connection.close, CloseCode.INTERNAL_ERROR)):
                    await self._hear(receive)
                return
            if only is not None:
                await self._watch_only(only)
            await self._hear(receive)
        except Exception:
            connection.close(CloseCode.INTERNAL_ERROR)
            raise
        finally:
            connection.over()
            self._registration.leave()
            # It holds us.
            del self._registration

    async def _hear(self, receive: Receive) -> None:
        while (message := await receive())["type"] != "websocket.disconnect":
            if not self._connection.closing:
                await self._take(message)

    def _dismiss(self, ending: ConnectionEnding) -> None:
        message = self._message({"op": "error", "code": ending.code, "detail": ending.detail})
        self._connection.end(message, CloseCode.TOKEN_ENDED, ending.code)

    async def _watch_only(self, wanted: Wanted | InvalidInputError) -> None:
        try:
            if isinstance(wanted, InvalidInputError):
                raise wanted
            await self._watch(wanted, None)
        except (BusError, ProblemError) as error:
            code = await self._refuse(error, None, self._connection.only)
            self._connection.close(close_code_of(code), code)

    async def _take(self, message: Message) -> None:
        try:
            op = self._read(message)
        except OpError as error:
            await self._complain(error)
            return
        self._malformed = 0
        try:
            if not isinstance(op, PingOp):
                await self._access.spend_request()
            await self._do(op)
        except OpError as error:
            await self._tell_error(error.code, error.detail, error.field, op.id, getattr(op, "execution", None))
        except (BusError, ProblemError) as error:
            await self._refuse(error, op.id, getattr(op, "execution", None))

    def _read(self, message: Message) -> Op:
        frame = message.get("text") or message.get("bytes") or ""
        if len(frame) > MAX_FRAME_BYTES:
            raise OpError("frame_too_large", f"a frame has at most {MAX_FRAME_BYTES} bytes")
        try:
            given = self._connection.rendering.parse(message)
        except InvalidInputError as error:
            raise OpError("invalid_event", error.detail, field=error.field) from None
        except ValueError as error:
            raise OpError("invalid_frame", f"the frame cannot be read: {error}"[:200]) from None
        return check_op(given)

    async def _complain(self, error: OpError) -> None:
        self._gateway.hub.count("ws_malformed_frames")
        await self._tell_error(error.code, error.detail, error.field, error.id, None)
        self._malformed += 1
        if self._malformed >= MAX_MALFORMED:
            self._connection.close(CloseCode.TOO_MANY_MALFORMED)

    async def _do(self, op: Op) -> None:
        match op:
            case PingOp():
                await self._tell({"op": "pong", "id": op.id})
            case SubscribeOp():
                await self._subscribe(op)
            case UnsubscribeOp():
                await self._unsubscribe(op)
            case AuthOp():
                await self._renew(op)
            case _:
                await self._ask(op)

    async def _subscribe(self, op: SubscribeOp) -> None:
        subscriptions = self._connection.subscriptions
        self._check_shared()
        if op.execution in subscriptions:
            raise OpError(
                "already_subscribed",
                "already subscribed; unsubscribe first to start from another cursor",
                field="execution",
            )
        most = self._gateway.settings.max_subscriptions
        if len(subscriptions) >= most:
            raise OpError("too_many_subscriptions", f"a socket has at most {most}", field="execution")
        await self._watch(wanted_of(op), op.id)

    async def _renew(self, op: AuthOp) -> None:
        principal = await self._access.renewed(op.token, list(self._connection.subscriptions))
        self._access.principal = principal
        self._registration.renew(principal)
        expires_at = principal.expires_at
        expires = None if expires_at is None else ts_of(int(expires_at * 1000))
        await self._tell({"op": "authenticated", "id": op.id, "expires": expires})

    async def _unsubscribe(self, op: UnsubscribeOp) -> None:
        self._check_shared()
        if op.execution not in self._connection.subscriptions:
            raise OpError("not_subscribed", "no such subscription, or it has ended", field="execution")
        self._connection.unsubscribe(op.execution)
        await self._tell({"op": "unsubscribed", "id": op.id, "execution": op.execution})

    async def _ask(self, op: Asks) -> None:
        only = self._connection.only
        if only is not None and op.execution != only:
            raise OpError("one_execution_only", f"this socket is for {only}; use /v1/ws for others", field="execution")
        self._access.check("control")
        await self._access.run(check_execution_id(op.execution, field="execution"), "control")
        outcome = await op.send(self._gateway.bus.control, op.execution, self._access.asker(op.by))
        told = {"execution": op.execution, "request": outcome.request, "status": outcome.status}
        await self._tell({"op": "accepted", "id": op.id, **told})

    def _check_shared(self) -> None:
        if self._connection.only is not None:
            detail = "this socket is for one execution; close it to leave, and use /v1/ws for several"
            raise OpError("one_execution_only", detail, field="op")

    async def _watch(self, wanted: Wanted, request_id: RequestId | None) -> None:
        """Raises ExecutionUnknownError, BusUnavailableError."""
        gateway, connection = self._gateway, self._connection
        if gateway.draining:
            connection.close(CloseCode.DRAINING)
            return
        self._access.check("read")
        try:
            topic, hold = await open_or_begun(gateway.hub, self._access, wanted.execution_id, wanted.wait_for_start)
        except SentAwayError:
            connection.close(CloseCode.DRAINING)
            return
        if connection.closing:
            hold.release()
            return
        if wanted.cursor is not None and wanted.cursor != START:
            gateway.hub.count("resumes")
        position = Numbering.after(topic.head if wanted.cursor is None else wanted.cursor)
        said = {
            "op": "subscribed",
            "id": request_id,
            "execution": wanted.execution_id,
            "cursor": str(position.cursor),
            "head": str(topic.head),
            "status": topic.status,
        }
        connection.subscribe(
            topic,
            position,
            wanted=wanted.filter,
            coalesce_ms=wanted.coalesce_ms,
            reply=self._message(said),
            compress=wanted.compress,
        )
        hold.release()
        await connection.replied()

    async def _refuse(
        self, error: BusError | ProblemError, request_id: RequestId | None, execution_id: str | None
    ) -> str:
        problem = problem_of(error)
        await self._tell_error(problem.code, problem.detail, problem.field, request_id, execution_id)
        return problem.code

    async def _tell_error(
        self, code: str, detail: str, field: str | None, request_id: RequestId | None, execution_id: str | None
    ) -> None:
        members: dict[str, Any] = {"op": "error", "id": request_id, "code": code, "detail": detail}
        if field is not None:
            members["field"] = field
        if execution_id is not None:
            members["execution"] = execution_id[:_MAX_SHOWN_CHARS]
        await self._tell(members)

    async def _tell(self, members: dict[str, Any]) -> None:
        await self._connection.reply(self._message(members))

    def _message(self, members: dict[str, Any]) -> Message:
        rendering = self._connection.rendering
        return rendering.message(rendering.piece(members))


def wanted_of(op: SubscribeOp) -> Wanted:
    """Raises InvalidInputError that names the field."""
    execution_id = check_execution_id(op.execution, field="execution")
    cursor = START if op.from_ is None else None if op.from_ == TAIL else parse(op.from_, field="from")
    return Wanted(
        execution_id, cursor, make_filter(op.types, op.step, op.mode, op.merge), op.coalesce_ms, compress=op.compress
    )
