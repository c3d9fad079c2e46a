"""The events of one execution: one URL, live as SSE or NDJSON, or paged as JSON."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from gateway.accept import choose
from gateway.context import CurrentGateway
from gateway.events_route import NDJSON_TYPE, SSE_TYPE, stream
from gateway.page import read_page
from gateway.parsing import ExecutionId, check_limit
from gateway.problem_docs import problems
from gateway.problems import Problem, ProblemError
from gateway.schemas import EventPage

router = APIRouter(tags=["events"])

PAGE = "application/json"
# The page before NDJSON: application/* is what programs say that know of neither.
OFFERED = {kind: kind for kind in (SSE_TYPE, PAGE, NDJSON_TYPE)}
DEFAULT_LIMIT = 100


@router.get(
    "/executions/{execution_id}/events",
    summary="Watch an execution, or read a page of its log",
    response_class=Response,
    responses={
        200: {
            "model": EventPage,
            "description": "A page (`application/json`), or the log from the cursor on and then live "
            "(`text/event-stream` or `application/x-ndjson`; resume with `Last-Event-ID` or `from`). Without an "
            "`Accept` that prefers one of them: a page when `after` or `limit` is given, else `text/event-stream`.",
            "content": {SSE_TYPE: {"schema": {"type": "string"}}, NDJSON_TYPE: {"schema": {"type": "string"}}},
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
    chosen = choose(request.headers.get("accept"), OFFERED, default=PAGE if paged else SSE_TYPE)
    if chosen in {SSE_TYPE, NDJSON_TYPE}:
        return await stream(request, gateway, execution_id, chosen)
    if chosen == PAGE:
        count = check_limit(DEFAULT_LIMIT if limit is None else limit, gateway.settings.max_page)
        return await read_page(gateway, execution_id, after or "", count)
    detail = f"events come as {', '.join(OFFERED)}; this Accept header allows none of them"
    raise ProblemError(Problem(406, "not_acceptable", detail, "Accept", {"available": list(OFFERED)}))
