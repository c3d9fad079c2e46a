"""GET /v1/activity: what happens to all executions, as it happens."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Response

from tailrace.gateway.access.access import ReadAccess
from tailrace.gateway.context import CurrentGateway
from tailrace.gateway.http.problem_docs import problems
from tailrace.gateway.routes.problem_route import ProblemRoute
from tailrace.gateway.streams.activity import activity_filter, open_activity
from tailrace.gateway.streams.deferred import SSE_TYPE
from tailrace.gateway.streams.parameters import ActivityParameters

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
    tenant: Annotated[
        str | None, Query(description="Only of this tenant", min_length=1, max_length=128, examples=["acme"])
    ] = None,
) -> Response:
    wanted = activity_filter(parameters, access, pipeline, tenant, gateway.authorize)
    return await open_activity(gateway, access, parameters, wanted)
