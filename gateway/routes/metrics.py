"""GET /metrics, for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response

from tailrace.bus.ops.metrics import CONTENT_TYPE
from tailrace.bus.ops.supervised import ANSWER_SECONDS
from tailrace.gateway.access.access import AdminAccess
from tailrace.gateway.http.problem_docs import problems
from tailrace.gateway.http.problems import ProblemError, unavailable
from tailrace.gateway.routes.problem_route import ProblemRoute

router = APIRouter(route_class=ProblemRoute, tags=["health"])


@router.get(
    "/metrics",
    summary="Metrics in Prometheus' text format",
    description="Where credentials are asked for, they tell of all tenants, and take the scope `admin` of a token "
    "whose tenant is `*`.",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems()},
)
async def read_metrics(access: AdminAccess) -> Response:
    access.check_all()
    try:
        text = await access.gateway.metrics.of_all()
    except TimeoutError:
        detail = f"the supervisor did not answer within {ANSWER_SECONDS:g} s"
        raise ProblemError(unavailable("supervisor_silent", detail)) from None
    return Response(text, headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})
