"""The events of one execution: one URL, live as SSE or NDJSON, or paged as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from tailrace.bus import START, Cursor, ExecutionUnknownError, InvalidInputError
from tailrace.bus.model.cursor import parse
from tailrace.bus.model.filter import Filter
from tailrace.bus.queries.page import collect
from tailrace.gateway.access.access import Access, WatchAccess
from tailrace.gateway.context import CurrentGateway, GatewayContext
from tailrace.gateway.http.accept import accepted, choose
from tailrace.gateway.http.parsing import ExecutionId, check_limit
from tailrace.gateway.http.problem_docs import problems
from tailrace.gateway.http.problems import Problem, ProblemError
from tailrace.gateway.http.schemas import EventPage, Links
from tailrace.gateway.routes.problem_route import ProblemRoute
from tailrace.gateway.streams.deferred import SSE_TYPE
from tailrace.gateway.streams.long_poll import await_news
from tailrace.gateway.streams.opening import NDJSON_TYPE, stream
from tailrace.gateway.streams.parameters import CurrentParameters, StreamParameters

router = APIRouter(route_class=ProblemRoute, tags=["events"])

PAGE = "application/json"
# The page before NDJSON: application/* is what programs say that know of neither.
OFFERED = {kind: kind for kind in (SSE_TYPE, PAGE, NDJSON_TYPE)}
DEFAULT_LIMIT = 100
# Less than what proxies leave a request that says nothing.
MAX_WAIT_SECONDS = 50.0


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
        return await stream(gateway, access, parameters, execution_id, chosen)
    if chosen == PAGE:
        # First: what is wrong with it must not tell whether another tenant's execution is there.
        query = _page_query(gateway, parameters, after, limit, last, wait)
        await access.run(execution_id)
        page = await _read_page(request, access, execution_id, query)
        access.check_current()
        return page
    detail = f"events come as {', '.join(OFFERED)}; this Accept header allows none of them"
    raise ProblemError(Problem(406, "not_acceptable", detail, "Accept", {"available": list(OFFERED)}))


@dataclass(frozen=True, slots=True)
class _PageQuery:
    """``last`` begins with the newest so many; ``wait_seconds`` waits for the first event of a page without any."""

    after: Cursor
    limit: int
    last: int | None
    wait_seconds: float
    filters: Mapping[str, str]
    wanted: Filter | None

    def following(self, cursor: Cursor) -> str:
        """The query of the next page."""
        wait = {"wait": f"{self.wait_seconds:g}"} if self.wait_seconds else {}
        return urlencode({"after": str(cursor), "limit": self.limit, **wait, **self.filters})


async def _read_page(request: Request, access: Access, execution_id: str, query: _PageQuery) -> Response:
    """Raises ExecutionUnknownError, BusUnavailableError; ClientDisconnect while it waits."""
    headers = {"Cache-Control": "no-store", "Vary": "Accept"}
    gateway = access.gateway
    log, after, max_bytes = gateway.bus.log, query.after, gateway.settings.page_bytes
    if not await log.exists(execution_id):
        raise ExecutionUnknownError(execution_id)
    if query.last is not None:
        after = await gateway.hub.before_newest(execution_id, query.last)
    page = await collect(log, execution_id, after, query.limit, max_bytes, wanted=query.wanted)
    if query.wait_seconds and page.has_no_news:
        after = page.next
        if not await await_news(request, access, execution_id, after, query.wait_seconds):
            headers["Connection"] = "close"
        page = await collect(log, execution_id, after, query.limit, max_bytes, wanted=query.wanted)
    following = None if page.ended else f"{Links.of(execution_id).events}?{query.following(page.next)}"
    return Response(page.render({"next": following}), headers=headers, media_type=PAGE)


def _page_query(  # noqa: PLR0917 - as the route gets them
    gateway: GatewayContext,
    parameters: StreamParameters,
    after: str | None,
    limit: int | None,
    last: int | None,
    wait: float | None,
) -> _PageQuery:
    if after is not None and last is not None:
        raise InvalidInputError("last", "'after' and 'last' cannot be used together: give one of them")
    most = gateway.settings.max_page
    newest = None if last is None else check_limit(last, most, field="last")
    return _PageQuery(
        after=START if after is None else parse(after, field="after"),
        limit=check_limit(limit or newest or DEFAULT_LIMIT, most),
        last=newest,
        wait_seconds=wait or 0.0,
        filters=parameters.filters,
        wanted=parameters.filter(),
    )
