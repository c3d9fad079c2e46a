"""The events of one execution: one URL, live as SSE or paged as JSON."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from gateway.accept import choose
from gateway.context import CurrentGateway
from gateway.events_route import stream
from gateway.page import read_page
from gateway.parsing import ExecutionId, check_limit
from gateway.problem_docs import problems
from gateway.problems import Problem, ProblemError
from gateway.schemas import EventPage

router = APIRouter(tags=["events"])

STREAM = "text/event-stream"
PAGE = "application/json"
OFFERED = {STREAM: STREAM, PAGE: PAGE}
DEFAULT_LIMIT = 100


@router.get(
    "/executions/{execution_id}/events",
    summary="Watch an execution, or read a page of its log",
    response_class=Response,
    responses={
        200: {
            "model": EventPage,
            "description": "A page (`application/json`), or the log from the cursor on and then live "
            "(`text/event-stream`; resume with `Last-Event-ID`). Without an `Accept` that prefers one of them: "
            "a page when `after` or `limit` is given, else the stream.",
            "content": {STREAM: {"schema": {"type": "string"}}},
        },
        204: {"description": "The execution has ended and nothing follows the cursor (stream only)"},
        **problems(400, 404, 406, 409, 422, 503),
    },
)
async def read_events(
    request: Request,
    gateway: CurrentGateway,
    execution_id: ExecutionId,
    after: Annotated[
        str | None, Query(description="Cursor of the last event already seen", examples=["1760000000000-7"])
    ] = None,
    limit: Annotated[int | None, Query(ge=1, description="Most events of a page", examples=[100])] = None,
) -> Response:
    paged = after is not None or limit is not None
    chosen = choose(request.headers.get("accept"), OFFERED, default=PAGE if paged else STREAM)
    if chosen == STREAM:
        return await stream(request, gateway, execution_id)
    if chosen == PAGE:
        count = check_limit(DEFAULT_LIMIT if limit is None else limit, gateway.settings.max_page)
        return await read_page(gateway, execution_id, after or "", count)
    detail = f"events come as {STREAM} or {PAGE}; this Accept header allows neither"
    raise ProblemError(Problem(406, "not_acceptable", detail, "Accept", {"available": list(OFFERED)}))
