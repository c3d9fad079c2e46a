"""GET /v1/executions/{id}/events as a live stream: parse, ask the hub, answer."""

from __future__ import annotations

import logging
from typing import Final

from starlette.responses import Response

from tailrace.bus.errors import BusUnavailableError, ReplyError
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import START
from tailrace.bus.model.event import check_execution_id
from tailrace.gateway.access.access import Access
from tailrace.gateway.context import GatewayContext
from tailrace.gateway.streams.deferred import SSE_TYPE, redis_away
from tailrace.gateway.streams.parameters import StreamParameters
from tailrace.gateway.streams.response import HubResponse
from tailrace.gateway.wire.formats import NDJSON

logger = logging.getLogger(__name__)

NDJSON_TYPE: Final = "application/x-ndjson"


async def stream(
    gateway: GatewayContext, access: Access, parameters: StreamParameters, execution_id: str, media_type: str = SSE_TYPE
) -> Response:
    """Replay after the client's cursor, then live, until the terminal event.

    204 when the client has had the terminal event: that is what stops an EventSource (WHATWG HTML, 9.2.3). So would
    a 503, for good; while Redis is away, SSE gets a stream that only says so and asks to come again.
    Raises InvalidInputError (400), ExecutionUnknownError (404), BusUnavailableError (503, NDJSON only).
    """
    check_execution_id(execution_id)
    cursor = parameters.cursor()
    rendering = NDJSON if media_type == NDJSON_TYPE else parameters.sse()
    wanted = parameters.filter()
    coalesce_ms = parameters.coalesce_ms()
    try:
        topic = await gateway.hub.open(execution_id, cursor, allows=access.allows(execution_id))
    except BusUnavailableError as error:
        if media_type != SSE_TYPE or (isinstance(error, ReplyError) and error.is_of_the_key):
            raise
        logger.warning("stream of %s: %s; the client has been told to retry", execution_id, error)
        return redis_away(gateway.bus.counters, rendering, execution_id)
    if topic is None:
        return Response(status_code=204)
    if cursor is not None and cursor != START:
        gateway.bus.counters.add("resumes")
    position = Numbering.after(topic.head if cursor is None else cursor)
    return HubResponse(
        gateway.hub,
        access,
        topic,
        position,
        rendering=rendering,
        wanted=wanted,
        coalesce_ms=coalesce_ms,
        retry_ms=gateway.settings.retry_ms,
        media_type=media_type,
        kind="ndjson" if media_type == NDJSON_TYPE else "sse",
        tell_cursor=cursor is None,
    )
