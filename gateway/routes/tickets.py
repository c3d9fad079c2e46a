"""POST /v1/tickets: what a page puts into a URL in place of its token."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from tailrace.bus import ExecutionUnknownError
from tailrace.bus.model.codec import ts_of
from tailrace.gateway.access.access import Access, requires
from tailrace.gateway.auth.refusals import ForbiddenError
from tailrace.gateway.auth.scopes import Scope
from tailrace.gateway.context import CurrentGateway
from tailrace.gateway.http.parsing import json_body
from tailrace.gateway.http.problem_docs import problems
from tailrace.gateway.routes.problem_route import ProblemRoute

router = APIRouter(route_class=ProblemRoute, tags=["security"])


class TicketRequest(BaseModel):
    """Unknown members are refused."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"execution_id": "build-7"}]})

    execution_id: str = Field(description="the one execution it is for")
    scopes: frozenset[Scope] = Field(
        frozenset({"read"}), min_length=1, description="of those that the caller has; `control` for a WebSocket"
    )
    once: bool = Field(default=False, description="good for one use: an EventSource cannot reconnect by itself with it")


class IssuedTicket(BaseModel):
    ticket: str = Field(description="for `?ticket=`", examples=["eyJhbGciOi…"])
    expires: str = Field(
        description="until when it opens streams; they may last longer", examples=["2026-01-02T03:05:05Z"]
    )


@router.post(
    "/tickets",
    status_code=201,
    summary="Get a short-lived ticket for one execution",
    description="For EventSource and WebSocket, which cannot send a header: put it into their URL as `?ticket=`. What "
    "it opened ends when the caller's own credential does. A ticket gives no tickets.",
    responses=problems(400, 404, 408, 413, 415, 422),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": TicketRequest.model_json_schema()}},
        }
    },
)
async def issue_ticket(
    access: Annotated[Access, requires("read")], request: Request, response: Response, gateway: CurrentGateway
) -> IssuedTicket:
    settings, principal = gateway.settings, access.principal
    if principal.credential == "ticket":
        raise ForbiddenError("insufficient_scope", "a ticket cannot be used to get another ticket; use the token")
    given = await json_body(
        request, TicketRequest, max_bytes=settings.max_body_bytes, within_seconds=settings.body_seconds
    )
    for scope in sorted(given.scopes):
        access.check(scope)
    await access.run(given.execution_id)
    if not await gateway.bus.log.exists(given.execution_id):
        raise ExecutionUnknownError(given.execution_id)
    ticket = await gateway.auth.tickets.issue(
        principal, given.execution_id, given.scopes, seconds=settings.ticket_seconds, once=given.once
    )
    response.headers["Cache-Control"] = "no-store"
    return IssuedTicket(ticket=ticket.text, expires=ts_of(int(ticket.expires_at * 1000)))
