"""Streams for routes of the application's own: what its request asks for, in the shape that the application chose."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tailrace.bus.errors import InvalidCursorError, InvalidInputError
from tailrace.bus.model.cursor import START, START_SPELLINGS, TAIL, Cursor
from tailrace.bus.model.event import check_execution_id
from tailrace.bus.model.filter import Filter
from tailrace.gateway.access.own_route import OwnRouteAccess
from tailrace.gateway.context import SCOPE_KEY, GatewayContext
from tailrace.gateway.http.accept import accepted, choose
from tailrace.gateway.streams.asked import NDJSON_TYPE, Asked
from tailrace.gateway.streams.deferred import PROBLEMS, SSE_TYPE, answer
from tailrace.gateway.streams.opening import open_stream
from tailrace.gateway.streams.parameters import MAX_COALESCE_MS, StreamParameters, make_filter
from tailrace.gateway.streams.waiting import check_wait
from tailrace.gateway.wire.formats import NDJSON, StreamFormat
from tailrace.gateway.wire.own import OwnFormat, OwnNdjson, OwnSocket, split_cursor
from tailrace.gateway.wire.wire import Wire

# Whether adjacent tokens come as one.
Merge = Literal["tokens"]
# What becomes of an execution whose last viewer has left.
OnDisconnect = Literal["continue", "cancel"]
GRACE_SECONDS: Final = 10.0
MAX_GRACE_SECONDS: Final = 86_400.0
_OFFERED: Final = {kind: kind for kind in (SSE_TYPE, NDJSON_TYPE)}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the route says of a stream, beside whose it is; see ``Gateway.stream``."""

    wire: Wire | None = None
    after: Cursor | str | None = None
    types: Sequence[str] | None = None
    step: str | None = None
    mode: str | None = None
    coalesce_ms: int = 0
    merge: str | None = None
    on_disconnect: OnDisconnect = "continue"
    grace_seconds: float = GRACE_SECONDS
    wait_for_start: float = 0.0


class OpenedLater(Response):
    """A response that is opened when it is sent: what is wrong then is answered as a problem, with its own status."""

    def __init__(self, gateway: GatewayContext, opening: Callable[[], Awaitable[Response]]) -> None:
        super().__init__()
        self.raw_headers = []
        self._gateway = gateway
        self._opening = opening

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._opening()
        except PROBLEMS as error:
            response = answer(Request({**scope, SCOPE_KEY: self._gateway}), error)
        except ClientDisconnect:
            return
        # What the route has set takes the place of ours.
        set_by_route = {name for name, _ in self.raw_headers}
        response.raw_headers = [each for each in response.raw_headers if each[0] not in set_by_route] + self.raw_headers
        await response(scope, receive, send)
        if self.background is not None:
            await self.background()


async def open_own(
    gateway: GatewayContext, access: OwnRouteAccess, request: Request, execution_id: str, wishes: Wishes
) -> Response:
    """Raises as ``open_stream`` does."""
    check_execution_id(execution_id, field="execution")
    parameters = StreamParameters.of(request)
    rendering, media_type = _rendering_of(gateway, request, parameters, wishes.wire)
    cursor, seen = place_of(parameters, rendering, execution_id, wishes.after)
    if wishes.on_disconnect not in get_args(OnDisconnect):
        raise InvalidInputError("on_disconnect", f"{wishes.on_disconnect!r} is neither 'continue' nor 'cancel'")
    if not 0 <= wishes.grace_seconds <= MAX_GRACE_SECONDS:
        raise InvalidInputError("grace_seconds", f"{wishes.grace_seconds!r} is not from 0 to {MAX_GRACE_SECONDS:g}")
    wanted = own_filter(wishes.types, wishes.step, wishes.mode, wishes.coalesce_ms, wishes.merge)
    coalesce_ms, wait_seconds = wishes.coalesce_ms, check_wait(wishes.wait_for_start)
    asked = Asked(execution_id, cursor, rendering, wanted, coalesce_ms, media_type, seen, wait_seconds)
    if wishes.on_disconnect == "cancel":
        # Noted before the viewer is let in, and only where there is something to see, or will be.
        if not wishes.wait_for_start:
            await gateway.hub.open(execution_id, allows=access.allows(execution_id))
        await access.cancel_unwatched(execution_id, wishes.grace_seconds)
    return await open_stream(gateway, access, asked)


def place_of(
    parameters: StreamParameters, rendering: object, execution_id: str, after: Cursor | str | None
) -> tuple[Cursor | None, int]:
    """Where a viewer begins, and how many frames of that entry it has: as it says itself, else as the route says.

    Raises InvalidCursorError.
    """
    if not parameters.resumes:
        if not isinstance(after, str):
            return START if after is None else after, 0
        parameters = StreamParameters(from_=after)
    if not isinstance(rendering, OwnFormat):
        return parameters.cursor(), 0
    if parameters.last_event_id is not None:
        given, field = parameters.last_event_id.strip(), parameters.last_event_id_field
    else:
        given, field = parameters.from_ or "", "from"
        if given == TAIL:
            return None, 0
    return rendering.read_cursor(given, execution_id, field=field)


def own_filter(
    types: Sequence[str] | None, step: str | None, mode: str | None, coalesce_ms: int = 0, merge: str | None = None
) -> Filter | None:
    """What a route leaves out or merges; None for neither. Raises InvalidInputError that names what cannot be used."""
    if not 0 <= coalesce_ms <= MAX_COALESCE_MS:
        raise InvalidInputError("coalesce_ms", f"{coalesce_ms!r} is not a number from 0 to {MAX_COALESCE_MS}")
    return make_filter(types, step, mode, merge)


def own_parameters(
    request: Request,
    *,
    types: Sequence[str] | None,
    step: str | None = None,
    mode: str | None = None,
    coalesce_ms: int = 0,
    merge: str | None = None,
) -> Callable[[], StreamParameters]:
    """Where the request says that its client is, and what the route leaves out; checked when it is called."""

    def checked() -> StreamParameters:
        own_filter(types, step, mode, coalesce_ms, merge)
        asked = StreamParameters.of(request)
        return replace(
            asked,
            types=None if types is None else ",".join(types),
            step=step,
            mode=mode,
            coalesce=str(coalesce_ms),
            merge=merge,
        )

    return checked


def resumed_of(connection: HTTPConnection, rendering: OwnFormat | None) -> str | None:
    """The execution that the client's last event was of; None where it has seen none.

    Raises HTTPException (400), which every application answers, for an id that names no execution.
    """
    parameters = StreamParameters.of(connection)
    given, field = parameters.last_event_id, parameters.last_event_id_field
    if given is None or given.strip() in START_SPELLINGS:
        return None
    try:
        named, _, _ = split_cursor(given.strip(), rendering, field=field)
        if named is None:
            raise InvalidCursorError(field, f"{given[:64]!r} names no execution; leave it out to begin anew")
        return check_execution_id(named, field=field)
    except InvalidInputError as error:
        raise HTTPException(400, str(error)) from None


def _rendering_of(
    gateway: GatewayContext, request: Request, parameters: StreamParameters, wire: Wire | None
) -> tuple[StreamFormat, str]:
    """Raises InvalidInputError."""
    if wire is None:
        kind = choose(accepted(request.headers), _OFFERED, default=SSE_TYPE)
        return (NDJSON, NDJSON_TYPE) if kind == NDJSON_TYPE else (parameters.sse(), SSE_TYPE)
    rendering = gateway.wires.format_of(wire)
    if isinstance(rendering, OwnSocket):
        raise InvalidInputError("wire", f"{type(wire).__name__} is for WebSockets; use gateway.socket, or another wire")
    return rendering, NDJSON_TYPE if isinstance(rendering, OwnNdjson) else SSE_TYPE
