"""GET /v1/activity: what happens to all executions, as it happens."""

from __future__ import annotations

import logging
from typing import Annotated, Final

from fastapi import APIRouter, Query, Response

from tailrace.bus.activity.stream import NAME
from tailrace.bus.errors import BusUnavailableError, ReplyError
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.event import check_name
from tailrace.gateway.access.access import Access, ReadAccess
from tailrace.gateway.access.activity_filter import ActivityFilter, viewer_of
from tailrace.gateway.context import CurrentGateway
from tailrace.gateway.http.problem_docs import problems
from tailrace.gateway.routes.problem_route import ProblemRoute
from tailrace.gateway.streams.deferred import SSE_TYPE, redis_away
from tailrace.gateway.streams.parameters import ActivityParameters, StreamParameters
from tailrace.gateway.streams.response import HubResponse
from tailrace.gateway.wire.activity import ACTIVITY_SSE, ACTIVITY_SSE_UNNAMED
from tailrace.gateway.wire.formats import SSE

logger = logging.getLogger(__name__)

router = APIRouter(route_class=ProblemRoute, tags=["activity"])

_EXAMPLE: Final = (
    "id: 1760000000000-7\n"
    "event: execution.completed\n"
    'data: {"type":"execution.completed","execution_id":"build-7","cursor":"1760000000000-12",'
    '"ts":"2026-01-02T03:04:05.678000Z","tenant":null,"pipeline":"document","data":{"result":5}}\n\n'
)


@router.get(
    "/activity",
    summary="Watch what happens to all executions",
    description="Server-Sent Events of their life cycles, one `id:` each, resumed with `Last-Event-ID` or `from`; "
    "without either, from now on. Only executions that the credential covers are shown. `cursor` is the event's place "
    "in the execution's own log; after a crash a change may come twice, with the same `execution_id` and `cursor`. "
    "The stream holds the latest 50,000 changes: a client that has missed more gets a `stream.gap` first.",
    response_class=Response,
    responses={
        200: {"content": {SSE_TYPE: {"schema": {"type": "string"}, "example": _EXAMPLE}}},
        **problems(400, 409, 422, 503),
    },
)
async def watch_activity(
    access: ReadAccess,
    parameters: ActivityParameters,
    gateway: CurrentGateway,
    *,
    pipeline: Annotated[str | None, Query(description="Only of this pipeline", examples=["document"])] = None,
    tenant: Annotated[str | None, Query(description="Only of this tenant", min_length=1, max_length=128)] = None,
) -> Response:
    cursor = parameters.cursor() if parameters.resumes else None
    rendering = ACTIVITY_SSE if parameters.sse() is SSE else ACTIVITY_SSE_UNNAMED
    wanted = _wanted(parameters, access, pipeline, tenant)
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


def _wanted(
    parameters: StreamParameters, access: Access, pipeline: str | None, tenant: str | None
) -> ActivityFilter | None:
    """Raises InvalidInputError."""
    of_types, authorize = parameters.filter(), access.gateway.authorize
    wanted = ActivityFilter(
        types=of_types.types if of_types is not None else (),
        viewer=viewer_of(access.principal, authorize),
        authorize=authorize,
        pipeline=None if pipeline is None else check_name(pipeline, field="pipeline"),
        tenant=tenant,
    )
    return None if wanted == ActivityFilter() else wanted
