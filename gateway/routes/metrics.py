"""GET /metrics, for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response

from tailrace.bus.ops.metrics import CONTENT_TYPE
from tailrace.gateway.access.access import AdminAccess
from tailrace.gateway.http.problem_docs import problems
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
    return Response(access.gateway.metrics.text(), headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})
