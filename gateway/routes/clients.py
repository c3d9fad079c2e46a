"""Who watches: connections of all gateways, the viewers of an execution, and ending a connection."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field

from tailrace.bus import InvalidInputError
from tailrace.bus.model import fields
from tailrace.gateway.access.access import Access, AdminAccess, ReadAccess
from tailrace.gateway.auth.tenant import ANY_TENANT
from tailrace.gateway.context import CurrentGateway
from tailrace.gateway.http.parsing import ExecutionId
from tailrace.gateway.http.problem_docs import problems
from tailrace.gateway.http.problems import Problem, ProblemError
from tailrace.gateway.presence import PresentClient
from tailrace.gateway.presence.record import Record
from tailrace.gateway.routes.problem_route import ProblemRoute

router = APIRouter(route_class=ProblemRoute, tags=["viewers"])

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000
_EXAMPLE: Final = "host-7-4f2a1c:12"


class ClientItem(BaseModel):
    """A live connection. ``watching`` counts its executions, of which ``executions`` shows the first 64."""

    id: str = Field(examples=[_EXAMPLE])
    gateway: str = Field(examples=["host-7-4f2a1c"])
    kind: str = Field(examples=["sse"])
    executions: list[str] = Field(examples=[["build-7"]])
    watching: int = Field(examples=[1])
    subject: str = Field(examples=["anonymous"])
    tenant: str | None = Field(examples=[None])
    address: str | None = Field(examples=[None])
    since: str = Field(examples=["2026-01-02T03:04:05.678000Z"])


class ClientList(BaseModel):
    items: list[ClientItem]
    total: int = Field(description="of all pages")
    next: str | None = Field(description="give it as `after` for the next page; null on the last")


class SubscriberCount(BaseModel):
    execution_id: str = Field(examples=["build-7"])
    subscribers: int = Field(examples=[2])
    gateways: dict[str, int] = Field(examples=[{"host-7-4f2a1c": 2}])


@router.get(
    "/clients",
    summary="List live connections, of all gateways",
    description="Those of the credential's tenant. True within seconds, and within 15 after a gateway was killed.",
    responses=problems(400, 422, 503),
)
async def read_clients(
    access: AdminAccess,
    gateway: CurrentGateway,
    response: Response,
    *,
    execution: Annotated[
        str | None, Query(description="Only those that watch it", max_length=128, examples=["build-7"])
    ] = None,
    limit: Annotated[
        int, Query(ge=1, le=MAX_LIMIT, description="Most clients of a page", examples=[100])
    ] = DEFAULT_LIMIT,
    after: Annotated[
        str | None, Query(description="`next` of the page before", max_length=256, examples=["gateway-1:17"])
    ] = None,
) -> ClientList:
    response.headers["Cache-Control"] = "no-store"

    def wanted(record: Record) -> bool:
        return _covers(access, record) and (execution is None or execution in record.executions)

    found = await gateway.presence.clients(wanted)
    start = 0 if after is None else _behind(found, after)
    page = found[start : start + limit]
    more = start + limit < len(found)
    return ClientList(items=[_item(each) for each in page], total=len(found), next=page[-1].id if more else None)


@router.delete(
    "/clients/{client_id}",
    status_code=202,
    summary="End a live connection",
    description="Whichever gateway it is on. The client is told `disconnected`, keeps its cursor, and may come back "
    "unless its token was revoked.",
    responses={202: {"description": "Its gateway has been told"}, **problems(404, 422, 503)},
    response_class=Response,
)
async def disconnect(
    access: AdminAccess,
    gateway: CurrentGateway,
    client_id: Annotated[str, Path(description="As `GET /v1/clients` gives it", max_length=256, examples=[_EXAMPLE])],
) -> Response:
    client = await gateway.presence.find(client_id)
    if client is None or not _covers(access, client.record):
        raise ProblemError(Problem(404, "client_unknown", "no such connection; it may have ended", "client_id"))
    await gateway.presence.disconnect(client)
    return Response(status_code=202)


@router.get(
    "/executions/{execution_id}/subscribers",
    summary="Count the viewers of an execution, over all gateways",
    responses=problems(400, 404, 422, 503),
)
async def read_subscribers(
    access: ReadAccess, gateway: CurrentGateway, response: Response, execution_id: ExecutionId
) -> SubscriberCount:
    del access
    response.headers["Cache-Control"] = "no-store"
    found = await gateway.presence.subscribers(execution_id)
    return SubscriberCount(execution_id=execution_id, subscribers=found.total, gateways=dict(found.by_gateway))


def _covers(access: Access, record: Record) -> bool:
    principal = access.principal
    if principal.tenant not in {ANY_TENANT, record.tenant}:
        return False
    # A record shows its first executions. Who is limited to some sees a connection only when it is of these alone.
    return principal.runs is None or (
        0 < record.watching == len(record.executions) and all(map(principal.names, record.executions))
    )


def _item(client: PresentClient) -> ClientItem:
    return ClientItem(id=client.id, gateway=client.gateway, **client.record.model_dump())


def _behind(found: list[PresentClient], after: str) -> int:
    """Where the page begins, also when the one it follows has gone. Raises InvalidInputError."""
    name, _, text = after.rpartition(":")
    number = fields.number(text)
    if not name or number is None:
        raise InvalidInputError("after", f"{after[:64]!r} is not the `next` of a page; leave it out for the first")
    place = (name, number)
    return sum(1 for each in found if (each.gateway, int(each.id.rpartition(":")[2])) <= place)
