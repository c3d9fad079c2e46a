"""An execution's events as a live stream: ask the hub, answer."""

from __future__ import annotations

import logging

from starlette.responses import Response

from tailrace.bus.errors import BusUnavailableError, ExecutionUnknownError, ReplyError
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import START, Cursor, just_before
from tailrace.bus.model.entry import Entry
from tailrace.bus.model.event import check_execution_id
from tailrace.gateway.access.access import Access
from tailrace.gateway.context import GatewayContext
from tailrace.gateway.streams.asked import NDJSON_TYPE, Asked
from tailrace.gateway.streams.deferred import SSE_TYPE, redis_away
from tailrace.gateway.streams.parameters import StreamParameters
from tailrace.gateway.streams.response import HubResponse
from tailrace.gateway.streams.waiting import WaitingResponse
from tailrace.gateway.wire.formats import NDJSON, StreamFormat
from tailrace.gateway.wire.own import OwnFormat

logger = logging.getLogger(__name__)


async def stream(
    gateway: GatewayContext,
    access: Access,
    parameters: StreamParameters,
    execution_id: str,
    media_type: str = SSE_TYPE,
    *,
    wait_for_start: float = 0.0,
) -> Response:
    """What a request to one of our routes asks for. Raises as ``open_stream`` does."""
    check_execution_id(execution_id)
    rendering = NDJSON if media_type == NDJSON_TYPE else parameters.sse()
    wanted, coalesce_ms = parameters.filter(), parameters.coalesce_ms()
    cursor = parameters.cursor()
    asked = Asked(execution_id, cursor, rendering, wanted, coalesce_ms, media_type, wait_for_start=wait_for_start)
    return await open_stream(gateway, access, asked)


async def open_stream(gateway: GatewayContext, access: Access, asked: Asked) -> Response:
    """Replay after the client's cursor, then live, until the terminal event.

    204 when the client has had the terminal event: that is what stops an EventSource (WHATWG HTML, 9.2.3). So would
    a 503, for good; while Redis is away, SSE gets a stream that only says so and asks to come again.
    With ``wait_for_start``, one that does not exist is waited for. Raises InvalidInputError (400),
    ExecutionUnknownError (404), BusUnavailableError (503, NDJSON only).
    """
    execution_id, cursor, rest = asked.execution_id, asked.cursor, b""
    try:
        after = just_before(cursor) if asked.seen and cursor is not None else cursor
        topic = await gateway.hub.open(execution_id, after, allows=access.allows(execution_id))
        hold = None if topic is None else gateway.hub.hold(topic)
        if asked.seen and cursor is not None:
            cursor, rest = await rest_of(gateway, execution_id, cursor, asked.rendering, asked.seen)
    except ExecutionUnknownError:
        if not asked.wait_for_start:
            raise
        return WaitingResponse(gateway.hub, access, asked, gateway.settings.retry_ms)
    except BusUnavailableError as error:
        if asked.media_type != SSE_TYPE or (isinstance(error, ReplyError) and error.is_of_the_key):
            raise
        logger.warning("stream of %s: %s; the client has been told to retry", execution_id, error)
        return redis_away(gateway.bus.counters, asked.rendering, execution_id)
    if topic is None:
        return Response(status_code=204)
    if cursor is not None and cursor != START:
        gateway.bus.counters.add("resumes")
    response = HubResponse(
        gateway.hub,
        access,
        topic,
        Numbering.after(topic.head if cursor is None else cursor),
        rendering=asked.rendering,
        wanted=asked.wanted,
        coalesce_ms=asked.coalesce_ms,
        retry_ms=gateway.settings.retry_ms,
        media_type=asked.media_type,
        kind=asked.kind,
        tell_cursor=cursor is None,
        rest=rest,
    )
    if hold is not None:
        hold.release()
    return response


async def rest_of(
    gateway: GatewayContext, execution_id: str, cursor: Cursor, rendering: StreamFormat, seen: int
) -> tuple[Cursor, bytes]:
    """The frames of an entry that a viewer lacks, and where to go on; before it, where the log has not got it.

    Raises BusUnavailableError.
    """
    before = just_before(cursor)
    page = await gateway.bus.log.read(execution_id, Numbering.after(before), 1)
    for item in page.items:
        if isinstance(item, Entry) and item.cursor == cursor and isinstance(rendering, OwnFormat):
            return cursor, b"".join(rendering.parts(execution_id, item)[seen:])
    return before, b""
