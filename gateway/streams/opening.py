"""GET /v1/executions/{id}/events as a live stream: parse, ask the hub, answer."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from tailrace.bus.errors import BusUnavailableError, ExecutionUnknownError, InvalidInputError, ReplyError
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import START, Cursor, parse
from tailrace.bus.model.event import check_execution_id, check_step
from tailrace.bus.model.filter import MAX_PATTERNS, Filter, check_mode, check_pattern
from tailrace.gateway.hub import Topic
from tailrace.gateway.streams.response import HubResponse
from tailrace.gateway.wire.formats import NDJSON, SSE, SSE_UNNAMED, Format, SseFormat

if TYPE_CHECKING:
    from tailrace.gateway.context import GatewayContext

MAX_COALESCE_MS = 1000
# About how long a browser waits before it asks again while Redis is away; spread, so that not all ask at once.
AWAY_RETRY_MS = 2000

logger = logging.getLogger(__name__)
SSE_TYPE = "text/event-stream"
NDJSON_TYPE = "application/x-ndjson"


async def stream(request: Request, gateway: GatewayContext, execution_id: str, media_type: str = SSE_TYPE) -> Response:
    """Replay after the client's cursor, then live, until the terminal event.

    204 when the client has had the terminal event: that is what stops an EventSource (WHATWG HTML, 9.2.3). So would
    a 503, for good; while Redis is away, SSE gets a stream that only says so and asks to come again.
    Raises InvalidInputError (400), ExecutionUnknownError (404), BusUnavailableError (503, NDJSON only).
    """
    check_execution_id(execution_id)
    cursor = start_cursor(request)
    rendering = NDJSON if media_type == NDJSON_TYPE else sse_of(request)
    wanted = filter_of(request)
    coalesce_ms = coalesce_ms_of(request)
    try:
        topic = await _open(gateway, execution_id, cursor)
    except BusUnavailableError as error:
        if media_type != SSE_TYPE or (isinstance(error, ReplyError) and error.is_of_the_key):
            raise
        logger.warning("stream of %s: %s; told to come again", execution_id, error)
        return come_again(gateway, execution_id, rendering)
    if topic is None:
        return Response(status_code=204)
    if cursor is not None and cursor != START:
        gateway.bus.counters.add("resumes")
    position = Numbering.after(topic.head if cursor is None else cursor)
    return HubResponse(
        gateway.hub,
        topic,
        position,
        rendering=rendering,
        wanted=wanted,
        coalesce_ms=coalesce_ms,
        retry_ms=gateway.settings.retry_ms if media_type == SSE_TYPE else None,
        media_type=media_type,
        kind="ndjson" if media_type == NDJSON_TYPE else "sse",
        tell_cursor=cursor is None,
    )


async def _open(gateway: GatewayContext, execution_id: str, cursor: Cursor | None) -> Topic | None:
    """None when nothing can follow the cursor. Raises ExecutionUnknownError, BusUnavailableError."""
    log = gateway.bus.log
    state = await log.state(execution_id)
    if state is None and not await log.exists(execution_id):
        raise ExecutionUnknownError(execution_id)
    if state is not None and state.terminal is not None and cursor == state.terminal:
        return None
    return await gateway.hub.open(execution_id)


def come_again(gateway: GatewayContext, execution_id: str | None, rendering: Format) -> Response:
    """An SSE stream that only says that Redis is away, and when to ask again."""
    gateway.bus.counters.add("streams_deferred")
    payload = {
        "code": "bus_unavailable",
        "detail": "Redis cannot be reached at the moment; nothing is lost, come again with the same cursor",
        **({} if execution_id is None else {"execution_id": execution_id}),
        "retry_ms": random.randint(AWAY_RETRY_MS // 2, AWAY_RETRY_MS * 3 // 2),
    }
    headers = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
    return Response(rendering.control("stream.error", payload), media_type=SSE_TYPE, headers=headers)


def start_cursor(request: HTTPConnection) -> Cursor | None:
    """Where to begin; None for the present head.

    Last-Event-ID is what the client has seen, so it wins over ``from``, which stays in the URL when an EventSource
    reconnects.
    """
    header = request.headers.get("last-event-id")
    if header is not None:
        return parse(header.strip(), field="Last-Event-ID")
    given = request.query_params.get("from")
    if given is None:
        return START
    return None if given == "tail" else parse(given, field="from")


def sse_of(request: HTTPConnection) -> SseFormat:
    given = request.query_params.get("events")
    if given is None or given == "named":
        return SSE
    if given == "message":
        return SSE_UNNAMED
    raise InvalidInputError("events", f"{given[:32]!r} is not known; use 'message' for unnamed events, or leave it out")


def filter_of(request: HTTPConnection) -> Filter | None:
    types = request.query_params.get("types")
    given = None if types is None else types.split(",") if types else []
    return make_filter(given, request.query_params.get("step"), request.query_params.get("mode"))


def make_filter(types: Sequence[str] | None, step: str | None, mode: str | None = None) -> Filter | None:
    """None for one that leaves nothing out. Raises InvalidInputError."""
    mode = None if mode is None else check_mode(mode)
    if types is None and step is None and mode is None:
        return None
    patterns = tuple(check_pattern(pattern) for pattern in types or ())
    if len(patterns) > MAX_PATTERNS:
        raise InvalidInputError("types", f"has {len(patterns)} patterns, the limit is {MAX_PATTERNS}")
    return Filter(patterns, None if step is None else check_step(step), mode)


def coalesce_ms_of(request: HTTPConnection) -> int:
    given = request.query_params.get("coalesce_ms")
    if given is None:
        return 0
    if not (given.isascii() and given.isdigit() and len(given) <= 4 and int(given) <= MAX_COALESCE_MS):  # noqa: PLR2004 - digits of the limit
        raise InvalidInputError("coalesce_ms", f"{given[:32]!r} is not a number from 0 to {MAX_COALESCE_MS}")
    return int(given)
