"""GET /v1/executions: which executions there are."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response

from tailrace.bus.model.codec import ts_of
from tailrace.bus.model.event import check_name
from tailrace.bus.model.labels import MAX_LABELS, parse_label
from tailrace.bus.model.lifecycle import Status
from tailrace.bus.queries.listing import MAX_LIMIT, ListQuery, list_executions, parse_place, parse_time, place_text
from tailrace.gateway.access.access import ReadAccess
from tailrace.gateway.context import CurrentGateway
from tailrace.gateway.http.links import link
from tailrace.gateway.http.problem_docs import problems
from tailrace.gateway.http.schemas import ExecutionList, ExecutionSummary, Links, ListLinks
from tailrace.gateway.routes.problem_route import ProblemRoute

router = APIRouter(route_class=ProblemRoute, prefix="/executions", tags=["executions"])

DEFAULT_LIMIT: Final = 50


@router.get(
    "",
    summary="List executions, the newest first",
    description="Those that the credential covers. A page begins behind the last one of the page before, so what is "
    "created meanwhile neither repeats nor hides anything. A page may have fewer items than `limit`, even none, and "
    "still a `next`: the work of one request is bounded.",
    responses=problems(400, 409, 422, 503),
)
async def read_list(
    access: ReadAccess,
    gateway: CurrentGateway,
    response: Response,
    *,
    status: Annotated[list[Status] | None, Query(description="One of these; may be given several times")] = None,
    pipeline: Annotated[str | None, Query(description="Only of this pipeline", examples=["document"])] = None,
    tenant: Annotated[
        str | None, Query(description="Only of this tenant", min_length=1, max_length=128, examples=["acme"])
    ] = None,
    label: Annotated[
        list[str] | None,
        Query(
            description="Only with this label, as `name:value`; may be given several times, and all must hold",
            max_length=MAX_LABELS,
            examples=[["user:ann"]],
        ),
    ] = None,
    created_after: Annotated[
        str | None, Query(description="RFC 3339; this time or later", examples=["2026-01-02T03:04:05Z"])
    ] = None,
    created_before: Annotated[
        str | None, Query(description="RFC 3339; before this time", examples=["2026-01-03T00:00:00+01:00"])
    ] = None,
    limit: Annotated[
        int, Query(ge=1, le=MAX_LIMIT, description="Most executions of a page", examples=[50])
    ] = DEFAULT_LIMIT,
    cursor: Annotated[
        str | None, Query(description="`next` of the page before", examples=["1760000000000-build-7"])
    ] = None,
) -> ExecutionList:
    response.headers["Cache-Control"] = "no-store"
    if access.tenant is not None and tenant not in {None, access.tenant}:
        # As if that tenant had none.
        return ExecutionList(items=[], next=None, links=ListLinks(next=None))
    query = ListQuery(
        statuses=tuple(dict.fromkeys(status or ())),
        pipeline=None if pipeline is None else check_name(pipeline, field="pipeline"),
        tenant=access.tenant or tenant,
        after_ms=None if created_after is None else parse_time(created_after, field="created_after"),
        before_ms=None if created_before is None else parse_time(created_before, field="created_before"),
        cursor=None if cursor is None else parse_place(cursor),
        limit=limit,
        labels=tuple(parse_label(each) for each in label or ()),
    )
    page = await list_executions(gateway.bus.log, gateway.bus.index, query, access.covers)
    following = None if page.next is None else place_text(page.next)
    return ExecutionList(
        items=[ExecutionSummary.of(state, links=Links.of(state.execution_id)) for state in page.states],
        next=following,
        links=ListLinks(next=None if following is None else link(f"/v1/executions?{_encoded(query, following)}")),
    )


def _encoded(query: ListQuery, cursor: str) -> str:
    given = {
        "status": query.statuses,
        "pipeline": query.pipeline,
        "tenant": query.tenant,
        "label": tuple(f"{name}:{value}" for name, value in query.labels),
        "created_after": None if query.after_ms is None else ts_of(query.after_ms),
        "created_before": None if query.before_ms is None else ts_of(query.before_ms),
        "limit": query.limit,
        "cursor": cursor,
    }
    return urlencode({name: value for name, value in given.items() if value not in {None, ()}}, doseq=True)
