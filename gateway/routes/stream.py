"""GET /v1/stream: several executions over one SSE response."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Query, Response

from tailrace.bus.errors import BusUnavailableError, InvalidInputError, ReplyError
from tailrace.bus.model.cursor import START, Cursor
from tailrace.bus.model.event import check_execution_id
from tailrace.gateway.access.access import Access, ReadAccess
from tailrace.gateway.context import CurrentGateway, GatewayContext
from tailrace.gateway.http.problem_docs import problems
from tailrace.gateway.routes.problem_route import ProblemRoute
from tailrace.gateway.streams.deferred import SSE_TYPE, redis_away
from tailrace.gateway.streams.multiplex_response import Member, MultiplexRequest, MultiplexResponse
from tailrace.gateway.streams.parameters import CurrentParameters, StreamParameters
from tailrace.gateway.wire.cursors import parse_cursors
from tailrace.gateway.wire.formats import SSE
from tailrace.gateway.wire.multiplex import MULTIPLEX_SSE, MULTIPLEX_SSE_UNNAMED, MultiplexFormat

router = APIRouter(route_class=ProblemRoute, tags=["events"])

MAX_EXECUTIONS: Final = 64


@router.get(
    "/stream",
    summary="Watch several executions over one connection",
    description="Server-Sent Events of all of them, as `/v1/executions/{id}/events` gives them for one; each says "
    "whose it is in `execution_id`. The `id:` of an event carries the cursors of all, so that `Last-Event-ID` resumes "
    "every one of them. Each ends in a `stream.end` of its own; after the last one the response ends.",
    response_class=Response,
    responses={
        200: {"content": {SSE_TYPE: {"schema": {"type": "string"}}}},
        204: {"description": "All of them have ended and nothing follows the cursors"},
        **problems(400, 404, 409, 422, 503),
    },
)
async def watch_several(
    access: ReadAccess,
    parameters: CurrentParameters,
    gateway: CurrentGateway,
    execution: Annotated[list[str], Query(min_length=1, description=f"1 to {MAX_EXECUTIONS} of them, each named once")],
) -> Response:
    executions = _checked(execution)
    seen = parameters.last_event_id
    given = seen if seen is not None else parameters.from_
    tail = seen is None and given == "tail"
    field = parameters.last_event_id_field if seen is not None else "from"
    before = None if tail else parse_cursors("0" if given is None else given.strip(), executions, field=field)
    wishes = MultiplexRequest(
        _rendering_of(parameters),
        parameters.filter(),
        parameters.coalesce_ms(),
        gateway.settings.retry_ms,
        tell_cursors=tail,
    )
    cursors: Sequence[Cursor | None] = before or [None] * len(executions)
    opening = (_member(gateway, access, *member) for member in zip(executions, cursors, strict=True))
    try:
        members = await asyncio.gather(*opening)
    except BusUnavailableError as error:
        if isinstance(error, ReplyError) and error.is_of_the_key:
            raise
        return redis_away(gateway.bus.counters, wishes.rendering.plain)
    if all(member.topic is None for member in members):
        return Response(status_code=204)
    if seen is not None:
        gateway.bus.counters.add("resumes")
    return MultiplexResponse(gateway.hub, access, members, wishes)


def _rendering_of(parameters: StreamParameters) -> MultiplexFormat:
    return MULTIPLEX_SSE if parameters.sse() is SSE else MULTIPLEX_SSE_UNNAMED


def _checked(given: Sequence[str]) -> list[str]:
    if len(given) > MAX_EXECUTIONS:
        raise InvalidInputError("execution", f"there are {len(given)}, the limit is {MAX_EXECUTIONS} a stream")
    executions = [check_execution_id(execution_id, field="execution") for execution_id in given]
    if len(set(executions)) != len(executions):
        twice = next(execution_id for execution_id in executions if executions.count(execution_id) > 1)
        raise InvalidInputError("execution", f"{twice!r} is named more than once")
    return executions


async def _member(gateway: GatewayContext, access: Access, execution_id: str, cursor: Cursor | None) -> Member:
    topic = await gateway.hub.open(execution_id, cursor, allows=access.allows(execution_id))
    if topic is None:
        return Member(execution_id, cursor or START, None)
    return Member(execution_id, topic.head if cursor is None else cursor, topic, gateway.hub.hold(topic))
