"""GET /v1/executions/{id}/requests: what was asked of it."""

from __future__ import annotations

from fastapi import APIRouter, Response

from tailrace.bus.queries.requests import MAX_SHOWN, RequestList, requests_of
from tailrace.gateway.access.access import ReadAccess
from tailrace.gateway.context import CurrentGateway
from tailrace.gateway.http.parsing import ExecutionId
from tailrace.gateway.http.problem_docs import problems
from tailrace.gateway.routes.problem_route import ProblemRoute

router = APIRouter(route_class=ProblemRoute, prefix="/executions", tags=["executions"])


@router.get(
    "/{execution_id}/requests",
    summary="What was asked of an execution, and whether it has answered",
    description=f"Its newest cancellations, pauses, resumptions and signals, at most {MAX_SHOWN}, the newest last.",
    response_model_exclude_none=True,
    responses=problems(400, 404, 409, 503),
)
async def read_requests(
    _: ReadAccess, response: Response, gateway: CurrentGateway, execution_id: ExecutionId
) -> RequestList:
    response.headers["Cache-Control"] = "no-store"
    return await requests_of(gateway.bus.log, execution_id)
