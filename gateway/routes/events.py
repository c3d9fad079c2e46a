"""The events of one execution: one URL, live as SSE or NDJSON, or paged as JSON."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from tailrace.gateway.access.access import WatchAccess
from tailrace.gateway.context import CurrentGateway
from tailrace.gateway.http.accept import accepted, choose
from tailrace.gateway.http.parsing import ExecutionId
from tailrace.gateway.http.problem_docs import problems
from tailrace.gateway.http.problems import Problem, ProblemError
from tailrace.gateway.http.schemas import EventPage
from tailrace.gateway.routes.problem_route import ProblemRoute
from tailrace.gateway.streams.asked import NDJSON_TYPE
from tailrace.gateway.streams.deferred import SSE_TYPE
from tailrace.gateway.streams.opening import stream
from tailrace.gateway.streams.paging import MAX_WAIT_SECONDS, PAGE, page_query, read_page
from tailrace.gateway.streams.parameters import CurrentParameters
from tailrace.gateway.streams.waiting import MAX_WAIT_FOR_START

router = APIRouter(route_class=ProblemRoute, tags=["events"])

# The page before NDJSON: application/* is what programs say that know of neither.
OFFERED = {kind: kind for kind in (SSE_TYPE, PAGE, NDJSON_TYPE)}


@router.get(
    "/executions/{execution_id}/events",
    summary="Watch an execution, or read a page of its log",
    response_class=Response,
    responses={
        200: {
            "model": EventPage,
            "description": "A page (`application/json`), or the log from the cursor on and then live "
            "(`text/event-stream` or `application/x-ndjson`; resume with `Last-Event-ID` or `from`). Without an "
            "`Accept` that prefers one of them: a page when `after`, `limit`, `last` or `wait` is given, else "
            "`text/event-stream`. With `wait`, a page without events comes only when so many seconds have passed.",
            "content": {SSE_TYPE: {"schema": {"type": "string"}}, NDJSON_TYPE: {"schema": {"type": "string"}}},
        },
        204: {"description": "The execution has ended and nothing follows the cursor (stream only)"},
        **problems(400, 404, 406, 409, 422, 503),
    },
)
async def read_events(
    access: WatchAccess,
    request: Request,
    gateway: CurrentGateway,
    parameters: CurrentParameters,
    execution_id: ExecutionId,
    *,
    after: Annotated[
        str | None, Query(description="Cursor of the last event already seen", examples=["1760000000000-7"])
    ] = None,
    limit: Annotated[int | None, Query(ge=1, description="Most events of a page", examples=[100])] = None,
    wait_for_start: Annotated[
        float,
        Query(
            ge=0,
            le=MAX_WAIT_FOR_START,
            allow_inf_nan=False,
            description="Seconds to wait for an execution that does not exist yet, instead of a 404 (stream only)",
            examples=[30],
        ),
    ] = 0.0,
    last: Annotated[
        int | None, Query(ge=1, description="Begin with the newest so many, instead of `after`", examples=[10])
    ] = None,
    wait: Annotated[
        float | None,
        Query(
            ge=0,
            le=MAX_WAIT_SECONDS,
            allow_inf_nan=False,
            description="Seconds to wait for the first event of a page that would have none (long-poll)",
            examples=[20],
        ),
    ] = None,
) -> Response:
    paged = any(given is not None for given in (after, limit, last, wait))
    chosen = choose(accepted(request.headers), OFFERED, default=PAGE if paged else SSE_TYPE)
    if chosen in {SSE_TYPE, NDJSON_TYPE}:
        return await stream(gateway, access, parameters, execution_id, chosen, wait_for_start=wait_for_start)
    if chosen == PAGE:
        # First: what is wrong with it must not tell whether another tenant's execution is there.
        query = page_query(
            gateway,
            after=after,
            limit=limit,
            last=last,
            wait=wait,
            filters=parameters.filters,
            wanted=parameters.filter(),
        )
        await access.run(execution_id)
        page = await read_page(request, access, execution_id, query)
        access.check_current()
        return page
    detail = f"events come as {', '.join(OFFERED)}; this Accept header allows none of them"
    raise ProblemError(Problem(406, "not_acceptable", detail, "Accept", {"available": list(OFFERED)}))
