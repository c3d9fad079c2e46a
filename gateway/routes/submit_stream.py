"""POST /v1/executions/stream: submit, and watch in the same response."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Request, Response

from tailrace.gateway.access.access import Access, requires
from tailrace.gateway.context import CurrentGateway
from tailrace.gateway.http.accept import accepted, choose
from tailrace.gateway.http.problem_docs import problems
from tailrace.gateway.http.problems import Problem, ProblemError
from tailrace.gateway.http.schemas import Links
from tailrace.gateway.routes.executions import TAKES_SUBMISSION, take_submission
from tailrace.gateway.routes.problem_route import ProblemRoute
from tailrace.gateway.streams.asked import NDJSON_TYPE
from tailrace.gateway.streams.deferred import SSE_TYPE
from tailrace.gateway.streams.opening import stream
from tailrace.gateway.streams.parameters import CurrentParameters

router = APIRouter(route_class=ProblemRoute, prefix="/executions", tags=["executions"])

OFFERED: Final = {kind: kind for kind in (SSE_TYPE, NDJSON_TYPE)}
_EXAMPLE: Final = (
    'retry: 1000\nevent: stream.open\ndata: {"execution_id":"build-7","cursor":"0-0","status":"queued",'
    '"head":"1760000000000-1"}\n\nid: 1760000000000-1\nevent: execution.queued\ndata: {"type":"execution.queued",'
    '"execution_id":"build-7","ts":"2026-01-02T03:04:05.678000Z","data":{"pipeline":"document","queue":"default"}}\n\n'
)


@router.post(
    "/stream",
    summary="Submit an execution and watch it in the same response",
    description="The body is that of `POST /v1/executions`, the answer the stream of `GET /v1/executions/{id}/events`, "
    "with the same query parameters. Where the connection breaks, go on with a GET of `Location` + `/events` and "
    "`Last-Event-ID`; or repeat the POST with the same `execution_id` or `Idempotency-Key`, and `Last-Event-ID`: "
    "nothing is submitted twice.",
    response_class=Response,
    responses={
        200: {
            "description": "The execution is queued; its events follow, until it ends",
            "headers": {"Location": {"description": "The execution's state", "schema": {"type": "string"}}},
            "content": {
                SSE_TYPE: {"schema": {"type": "string"}, "example": _EXAMPLE},
                NDJSON_TYPE: {"schema": {"type": "string"}},
            },
        },
        204: {"description": "It was submitted before and has ended, and nothing follows the cursor"},
        **problems(400, 406, 408, 409, 413, 415, 422, 503),
    },
    openapi_extra=TAKES_SUBMISSION,
)
async def submit_and_watch(
    access: Annotated[Access, requires("submit", "read")],
    request: Request,
    gateway: CurrentGateway,
    parameters: CurrentParameters,
) -> Response:
    media_type = choose(accepted(request.headers), OFFERED, default=SSE_TYPE)
    if media_type is None:
        detail = f"the stream comes as {' or '.join(OFFERED)}; this Accept header allows neither"
        raise ProblemError(Problem(406, "not_acceptable", detail, "Accept", {"available": list(OFFERED)}))
    # A wish that cannot be met must be known before anything is submitted.
    parameters.check()
    execution_id = await take_submission(request, gateway, access)
    response = await stream(gateway, access, parameters, execution_id, media_type)
    response.headers["Location"] = Links.of(execution_id).self
    return response
