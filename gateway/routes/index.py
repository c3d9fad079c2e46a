"""Where to find what."""

from __future__ import annotations

from fastapi import APIRouter, Request

from tailrace.gateway.access.access import Everybody
from tailrace.gateway.http.schemas import ApiIndex
from tailrace.gateway.routes.problem_route import ProblemRoute

router = APIRouter(route_class=ProblemRoute, include_in_schema=False)


@router.get("/", dependencies=[Everybody])
async def index(request: Request) -> ApiIndex:
    return ApiIndex(
        name="tailrace",
        version=request.app.version,
        links={"executions": "/v1/executions", "openapi": "/openapi.json", "live": "/healthz", "ready": "/readyz"},
    )
