"""Several executions over one SSE response: ask the hub for each, answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from starlette.responses import Response

from tailrace.bus.errors import BusUnavailableError, InvalidInputError, ReplyError
from tailrace.bus.model.cursor import START, TAIL, Cursor
from tailrace.bus.model.event import check_execution_id
from tailrace.gateway.access.access import Access
from tailrace.gateway.context import GatewayContext
from tailrace.gateway.streams.deferred import redis_away
from tailrace.gateway.streams.multiplex_response import Member, MultiplexRequest, MultiplexResponse
from tailrace.gateway.streams.parameters import StreamParameters
from tailrace.gateway.wire.cursors import parse_cursors
from tailrace.gateway.wire.formats import SSE
from tailrace.gateway.wire.multiplex import MULTIPLEX_SSE, MULTIPLEX_SSE_UNNAMED, MultiplexFormat

MAX_EXECUTIONS: Final = 64


async def open_several(
    gateway: GatewayContext,
    access: Access,
    parameters: StreamParameters,
    given_executions: Sequence[str],
    *,
    field: str,
) -> Response:
    """204 when all of them have ended and nothing follows. ``field`` is what the executions were given as.

    Raises InvalidInputError (400), ExecutionUnknownError (404), ReplyError (409).
    """
    executions = _checked(given_executions, field)
    seen = parameters.last_event_id
    given = seen if seen is not None else parameters.from_
    tail = seen is None and given == TAIL
    place = parameters.last_event_id_field if seen is not None else "from"
    before = None if tail else parse_cursors("0" if given is None else given.strip(), executions, field=place)
    wishes = MultiplexRequest(
        rendering_of(parameters),
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


def rendering_of(parameters: StreamParameters) -> MultiplexFormat:
    return MULTIPLEX_SSE if parameters.sse() is SSE else MULTIPLEX_SSE_UNNAMED


def _checked(given: Sequence[str], field: str) -> list[str]:
    if len(given) > MAX_EXECUTIONS:
        raise InvalidInputError(field, f"there are {len(given)}, the limit is {MAX_EXECUTIONS} a stream")
    executions = [check_execution_id(execution_id, field=field) for execution_id in given]
    if len(set(executions)) != len(executions):
        twice = next(execution_id for execution_id in executions if executions.count(execution_id) > 1)
        raise InvalidInputError(field, f"{twice!r} is named more than once")
    return executions


async def _member(gateway: GatewayContext, access: Access, execution_id: str, cursor: Cursor | None) -> Member:
    topic = await gateway.hub.open(execution_id, cursor, allows=access.allows(execution_id))
    if topic is None:
        return Member(execution_id, cursor or START, None)
    return Member(execution_id, topic.head if cursor is None else cursor, topic, gateway.hub.hold(topic))
