"""POST /v1/executions/{id}/events: publishing, for producers without Redis."""

from __future__ import annotations

import time
from typing import Annotated, Final, TypeVar

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from tailrace.bus import InvalidInputError
from tailrace.bus.model.codec import ts_of
from tailrace.bus.model.fence import Fence
from tailrace.bus.model.trace import traceparent_of
from tailrace.bus.queries.publishing import append_lines
from tailrace.gateway.access.access import PublishAccess
from tailrace.gateway.context import CurrentGateway
from tailrace.gateway.http.parsing import ExecutionId, read_body
from tailrace.gateway.http.problem_docs import problems
from tailrace.gateway.http.problems import Problem, ProblemError
from tailrace.gateway.http.publishing import (
    MAX_LINES,
    MAX_SEQ,
    PRODUCER_PATTERN,
    EventIn,
    Origin,
    Published,
    problem_with,
    published,
    read_event,
    read_lines,
)
from tailrace.gateway.routes.problem_route import ProblemRoute

router = APIRouter(route_class=ProblemRoute, prefix="/executions", tags=["events"])

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
FENCE_PATTERN: Final = r"^[0-9]{1,15}:[0-9a-z]{1,64}$"

T = TypeVar("T", str, int)


async def _origin(  # noqa: PLR0917 - FastAPI gives them by name
    producer: Annotated[
        str | None,
        Query(
            pattern=PRODUCER_PATTERN,
            description="The producer's name, under which it numbers its events",
            examples=["import-3"],
        ),
    ] = None,
    seq: Annotated[
        int | None,
        Query(
            ge=1,
            le=MAX_SEQ,
            description="Number of the (first) event within its producer, rising by one from 1 on",
            examples=[1],
        ),
    ] = None,
    fence: Annotated[
        str | None,
        Query(
            pattern=FENCE_PATTERN,
            description="The owner's `fence.token`: proof that it still runs the execution",
            examples=["3:k4m0x2"],
        ),
    ] = None,
    producer_header: Annotated[
        str | None,
        Header(
            alias="Tailrace-Producer",
            pattern=PRODUCER_PATTERN,
            description="The same as `producer`",
            examples=["import-3"],
        ),
    ] = None,
    seq_header: Annotated[
        int | None, Header(alias="Tailrace-Seq", ge=1, le=MAX_SEQ, description="The same as `seq`", examples=[1])
    ] = None,
    fence_header: Annotated[
        str | None,
        Header(alias="Tailrace-Fence", pattern=FENCE_PATTERN, description="The same as `fence`", examples=["3:k4m0x2"]),
    ] = None,
    traceparent: Annotated[
        str | None,
        Header(
            description="W3C Trace Context; it goes with each event, as `meta.traceparent`",
            examples=["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
        ),
    ] = None,
) -> Origin:
    token = _one("fence", fence, fence_header)
    return Origin(
        _one("producer", producer, producer_header),
        _one("seq", seq, seq_header),
        None if token is None else Fence.parse(token),
        traceparent_of(traceparent),
    )


@router.post(
    "/{execution_id}/events",
    summary="Publish events",
    description=f"One event as `{JSON}`, or up to {MAX_LINES} as `{NDJSON}`, one a line. With `producer` and `seq`, in "
    "the query, as headers `Tailrace-Producer` and `Tailrace-Seq`, or in each line, an event is appended once however "
    "often it is sent. Behind a line that was refused no further one of its producer is tried. An execution that "
    "does not exist yet begins with its first event.",
    response_model=Published,
    response_model_exclude_none=True,
    responses={
        200: {"description": "Every event is in the log"},
        207: {"model": Published, "description": "Some lines of the batch are not in the log: `items` tells which"},
        **problems(400, 404, 408, 409, 413, 415, 422, 503),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": EventIn.model_json_schema()},
                NDJSON: {
                    "schema": {"type": "string"},
                    "example": '{"type":"log","data":{"text":"one"}}\n{"type":"log","data":{"text":"two"}}\n',
                },
            },
        }
    },
)
async def publish(  # noqa: PLR0917 - FastAPI gives them by name
    access: PublishAccess,
    request: Request,
    response: Response,
    gateway: CurrentGateway,
    execution_id: ExecutionId,
    origin: Annotated[Origin, Depends(_origin)],
) -> Published:
    settings, bus = gateway.settings, gateway.bus
    single = _is_single(request)
    body = await read_body(request, settings.max_body_bytes, settings.body_seconds)
    now, limit_bytes = ts_of(time.time_ns() // 1_000_000), bus.settings.max_event_bytes
    if single:
        lines = [read_event(body, origin, now=now, limit_bytes=limit_bytes)]
    else:
        lines = read_lines(body, origin, now=now, limit_bytes=limit_bytes)
    is_any_good = any(line.error is None for line in lines)
    if is_any_good:
        # Only now: what is refused must not take an id.
        await access.spend(len(lines))
        is_new = access.has_quotas and await bus.log.state(execution_id) is None
        await access.spend_quota(len(body), executions=int(is_new))
        await access.begin(execution_id)
    outcomes = await append_lines(bus.log, bus.index, execution_id, lines, origin.fence if is_any_good else None)
    if single and (problem := problem_with(outcomes[0])) is not None:
        raise ProblemError(problem)
    told = published(execution_id, outcomes)
    bus.counters.add("http_published_events", told.written)
    response.status_code = 207 if told.failed else 200
    response.headers["Cache-Control"] = "no-store"
    return told


def _is_single(request: Request) -> bool:
    given = request.headers.get("content-type", "")
    match given.partition(";")[0].strip().lower():
        case "application/json":
            return True
        case "application/x-ndjson":
            return False
    # Both are what no form of a stranger's page can send: see gateway.parsing.
    detail = f"send one event as {JSON} or a batch as {NDJSON}, not {given[:80] or 'nothing'!r}"
    raise ProblemError(Problem(415, "unsupported_media_type", detail, "Content-Type", {"available": [JSON, NDJSON]}))


def _one(field: str, query: T | None, header: T | None) -> T | None:
    if query is not None and header is not None and query != header:
        raise InvalidInputError(field, "the query and the header say different things: give one of them")
    return header if query is None else query
