"""Where to find what."""

from __future__ import annotations

from fastapi import APIRouter, Request

from gateway.auth.access import Everybody
from gateway.schemas import Index

router = APIRouter(include_in_schema=False)


@router.get("/", dependencies=[Everybody])
async def index(request: Request) -> Index:
    return Index(
        name="tailrace",
        version=request.app.version,
        links={"executions": "/v1/executions", "openapi": "/openapi.json", "live": "/healthz", "ready": "/readyz"},
    )
