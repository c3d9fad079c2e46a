"""GET /v1/stream: several executions over one SSE response."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from tailrace.gateway.access.access import ReadAccess
from tailrace.gateway.context import CurrentGateway
from tailrace.gateway.http.problem_docs import problems
from tailrace.gateway.routes.problem_route import ProblemRoute
from tailrace.gateway.streams.deferred import SSE_TYPE
from tailrace.gateway.streams.parameters import CurrentParameters
from tailrace.gateway.streams.several import MAX_EXECUTIONS, open_several

router = APIRouter(route_class=ProblemRoute, tags=["events"])


@router.get(
    "/stream",
    summary="Watch several executions over one connection",
    description="Server-Sent Events of all of them, as `/v1/executions/{id}/events` gives them for one; each says "
    "whose it is in `execution_id`. The `id:` of an event carries the cursors of all, so that `Last-Event-ID` resumes "
    "every one of them. Each ends in a `stream.end` of its own; after the last one the response ends.",
    response_class=Response,
    responses={
        200: {"content": {SSE_TYPE: {"schema": {"type": "string"}}}},
        204: {"description": "All of them have ended and nothing follows the cursors"},
        **problems(400, 404, 409, 422, 503),
    },
)
async def watch_several(
    access: ReadAccess,
    parameters: CurrentParameters,
    gateway: CurrentGateway,
    execution: Annotated[
        list[str],
        Query(
            min_length=1,
            description=f"1 to {MAX_EXECUTIONS} of them, each named once",
            examples=[["build-7", "build-8"]],
        ),
    ],
) -> Response:
    return await open_several(gateway, access, parameters, execution, field="execution")
