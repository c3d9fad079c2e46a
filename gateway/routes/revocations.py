"""POST /v1/revocations: take a credential back before it expires."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from tailrace.gateway.access.access import AdminAccess
from tailrace.gateway.auth.revoked import Revocation, RevocationKind
from tailrace.gateway.context import CurrentGateway
from tailrace.gateway.http.parsing import json_body
from tailrace.gateway.http.problem_docs import problems
from tailrace.gateway.routes.problem_route import ProblemRoute

router = APIRouter(route_class=ProblemRoute, tags=["security"])


class RevocationRequest(BaseModel):
    """Unknown members are refused."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"kind": "token", "value": "0f3a9c"}]})

    kind: RevocationKind = Field(
        description="`token` by its `jti`, `api_key` by its id, or all that a `subject` was given until now"
    )
    value: str = Field(min_length=1, max_length=256)


@router.post(
    "/revocations",
    status_code=204,
    summary="Revoke a token, an API key, or a subject",
    description="In force on every gateway within seconds; live connections end with `token_revoked`. Of the caller's "
    "own tenant only, or of every tenant for a caller whose tenant is `*`.",
    responses=problems(400, 408, 413, 415, 422),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": RevocationRequest.model_json_schema()}},
        }
    },
)
async def revoke(access: AdminAccess, request: Request, gateway: CurrentGateway) -> Response:
    access.check_unlimited()
    settings = gateway.settings
    given = await json_body(
        request, RevocationRequest, max_bytes=settings.max_body_bytes, within_seconds=settings.body_seconds
    )
    await gateway.auth.revoke(Revocation(given.kind, access.principal.tenant, given.value))
    return Response(status_code=204)
