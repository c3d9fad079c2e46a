"""GET /metrics, for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from tailrace.bus.ops.metrics import CONTENT_TYPE, BusMetrics
from tailrace.gateway.access.access import AdminAccess
from tailrace.gateway.http.problem_docs import problems

router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    summary="Metrics in Prometheus' text format",
    description="Where credentials are asked for, they tell of all tenants, and take the scope `admin` of a token "
    "whose tenant is `*`.",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems()},
)
async def read_metrics(access: AdminAccess, request: Request) -> Response:
    access.check_all()
    metrics: BusMetrics = request.app.state.metrics
    return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})
