"""GET /v1/stream: several executions over one SSE response."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response

from tailrace.bus.errors import BusUnavailableError, ExecutionUnknownError, InvalidInputError, ReplyError
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.event import check_execution_id
from tailrace.gateway.access.access import Access, ReadAccess
from tailrace.gateway.context import CurrentGateway, GatewayContext
from tailrace.gateway.http.problem_docs import problems
from tailrace.gateway.streams.multiplex_response import Member, MultiplexRequest, MultiplexResponse
from tailrace.gateway.streams.opening import SSE_TYPE, coalesce_ms_of, come_again, filter_of, sse_of
from tailrace.gateway.wire.cursors import parse_cursors

router = APIRouter(tags=["events"])

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
    request: Request,
    gateway: CurrentGateway,
    execution: Annotated[list[str], Query(min_length=1, description=f"1 to {MAX_EXECUTIONS} of them, each named once")],
) -> Response:
    executions = _checked(execution)
    header = request.headers.get("last-event-id")
    given = header if header is not None else request.query_params.get("from")
    tail = header is None and given == "tail"
    field = "Last-Event-ID" if header is not None else "from"
    before = None if tail else parse_cursors("0" if given is None else given.strip(), executions, field=field)
    wishes = MultiplexRequest(
        sse_of(request), filter_of(request), coalesce_ms_of(request), gateway.settings.retry_ms, tell_cursors=tail
    )
    cursors: Sequence[Cursor | None] = before or [None] * len(executions)
    opening = (_member(gateway, access, *member) for member in zip(executions, cursors, strict=True))
    try:
        members = await asyncio.gather(*opening)
    except BusUnavailableError as error:
        if isinstance(error, ReplyError) and error.is_of_the_key:
            raise
        return come_again(gateway, None, wishes.plain)
    if all(member.topic is None for member in members):
        return Response(status_code=204)
    if header is not None:
        gateway.bus.counters.add("resumes")
    return MultiplexResponse(gateway.hub, members, wishes)


def _checked(given: Sequence[str]) -> list[str]:
    if len(given) > MAX_EXECUTIONS:
        raise InvalidInputError("execution", f"there are {len(given)}, the limit is {MAX_EXECUTIONS} a stream")
    executions = [check_execution_id(execution_id, field="execution") for execution_id in given]
    if len(set(executions)) != len(executions):
        twice = next(execution_id for execution_id in executions if executions.count(execution_id) > 1)
        raise InvalidInputError("execution", f"{twice!r} is named more than once")
    return executions


async def _member(gateway: GatewayContext, access: Access, execution_id: str, cursor: Cursor | None) -> Member:
    await access.run(execution_id)
    log = gateway.bus.log
    state = await log.state(execution_id)
    if state is None and not await log.exists(execution_id):
        raise ExecutionUnknownError(execution_id)
    if state is not None and state.terminal is not None and cursor == state.terminal:
        return Member(execution_id, cursor, None)
    topic = await gateway.hub.open(execution_id)
    return Member(execution_id, topic.head if cursor is None else cursor, topic)
