"""GET /metrics, for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response

from gateway.auth.access import AdminAccess
from gateway.context import CurrentGateway
from gateway.metrics import CONTENT_TYPE

router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    summary="Metrics in Prometheus' text format",
    description="Takes the scope `admin` where credentials are asked for: it tells of all tenants.",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def read_metrics(access: AdminAccess, gateway: CurrentGateway) -> Response:
    del access  # asked for its effect
    return Response(gateway.metrics.text(), headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})
