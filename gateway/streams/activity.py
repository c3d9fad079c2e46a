"""The life cycles of all executions as one SSE response: ask the hub, answer."""

from __future__ import annotations

import logging

from starlette.responses import Response

from tailrace.bus.activity.stream import NAME
from tailrace.bus.errors import BusUnavailableError, ReplyError
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.event import check_name
from tailrace.gateway.access.access import Access
from tailrace.gateway.access.activity_filter import ActivityFilter, viewer_of
from tailrace.gateway.auth.principal import Authorize
from tailrace.gateway.context import GatewayContext
from tailrace.gateway.streams.deferred import redis_away
from tailrace.gateway.streams.parameters import StreamParameters
from tailrace.gateway.streams.response import HubResponse
from tailrace.gateway.wire.activity import ACTIVITY_SSE, ACTIVITY_SSE_UNNAMED
from tailrace.gateway.wire.formats import SSE

logger = logging.getLogger(__name__)


async def open_activity(
    gateway: GatewayContext, access: Access, parameters: StreamParameters, wanted: ActivityFilter | None
) -> Response:
    """From the client's place on, or from now. Raises InvalidInputError (400), ReplyError (409)."""
    cursor = parameters.cursor() if parameters.resumes else None
    rendering = ACTIVITY_SSE if parameters.sse() is SSE else ACTIVITY_SSE_UNNAMED
    try:
        topic = await gateway.activity.open(NAME)
    except BusUnavailableError as error:
        if isinstance(error, ReplyError) and error.is_of_the_key:
            raise
        logger.warning("activity: %s; the client has been told to retry", error)
        return redis_away(gateway.bus.counters, rendering)
    return HubResponse(
        gateway.activity,
        access,
        topic,
        Numbering.after(topic.head if cursor is None else cursor),
        rendering=rendering,
        wanted=wanted,
        coalesce_ms=0,
        retry_ms=gateway.settings.retry_ms,
        kind="activity",
        tell_cursor=cursor is None,
    )


def activity_filter(
    parameters: StreamParameters, access: Access, pipeline: str | None, tenant: str | None, authorize: Authorize | None
) -> ActivityFilter | None:
    """What is shown of the changes; None for all. Raises InvalidInputError."""
    of_types = parameters.filter()
    wanted = ActivityFilter(
        types=of_types.types if of_types is not None else (),
        viewer=viewer_of(access.principal, authorize),
        authorize=authorize,
        pipeline=None if pipeline is None else check_name(pipeline, field="pipeline"),
        tenant=tenant,
    )
    return None if wanted == ActivityFilter() else wanted
