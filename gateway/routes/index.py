"""Where to find what."""

from __future__ import annotations

from fastapi import APIRouter, Request

from tailrace.gateway.access.access import Everybody
from tailrace.gateway.http.schemas import ApiIndex

router = APIRouter(include_in_schema=False)


@router.get("/", dependencies=[Everybody])
async def index(request: Request) -> ApiIndex:
    return ApiIndex(
        name="tailrace",
        version=request.app.version,
        links={"executions": "/v1/executions", "openapi": "/openapi.json", "live": "/healthz", "ready": "/readyz"},
    )
