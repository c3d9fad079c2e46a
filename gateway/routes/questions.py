"""GET /v1/questions: what waits for a person."""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from tailrace.bus.model.codec import ts_of
from tailrace.bus.queries.questions import WaitingQuestion, list_questions, parse_place, place_text
from tailrace.gateway.access.access import ReadAccess
from tailrace.gateway.context import CurrentGateway
from tailrace.gateway.http.links import link
from tailrace.gateway.http.problem_docs import problems
from tailrace.gateway.http.schemas import Links, ListLinks
from tailrace.gateway.routes.problem_route import ProblemRoute

router = APIRouter(route_class=ProblemRoute, tags=["executions"])

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200


class QuestionItem(BaseModel):
    """A question, and whose. It is answered by a signal of the name ``signal``, whose data is the answer."""

    model_config = ConfigDict(populate_by_name=True)

    execution_id: str = Field(examples=["build-7"])
    pipeline: str | None = Field(examples=["document"])
    tenant: str | None = Field(examples=[None])
    labels: dict[str, str] = Field(examples=[{"user": "ann"}])
    step: str | None = Field(examples=["review"])
    ask: str = Field(examples=["review.1"])
    signal: str = Field(examples=["answer:review.1"])
    question: Any = Field(examples=["Publish it?"])
    answer_schema: dict[str, Any] | None = Field(
        alias="schema", description="JSON Schema of the answer; null where any is taken", examples=[{"type": "boolean"}]
    )
    since: str = Field(examples=["2026-01-02T03:04:05.678000Z"])
    links: Links


class QuestionList(BaseModel):
    """Those that wait longest first. A page may have fewer than ``limit``, even none: only a null ``next`` ends it."""

    items: list[QuestionItem]
    next: str | None = Field(examples=["1760000000000-build-7:review.1"])
    links: ListLinks


@router.get(
    "/questions",
    summary="List the questions that wait for a person",
    description="Those that steps ask with `ctx.ask`, of executions that the credential covers. Answer one with "
    "`POST /v1/executions/{id}/signals`, its `signal` as the name. The list can lag behind; the log is right.",
    responses=problems(400, 422, 503),
)
async def read_questions(
    access: ReadAccess,
    gateway: CurrentGateway,
    response: Response,
    limit: Annotated[
        int, Query(ge=1, le=MAX_LIMIT, description="Most questions of a page", examples=[50])
    ] = DEFAULT_LIMIT,
    cursor: Annotated[
        str | None, Query(description="`next` of the page before", examples=["1760000000000-build-7:review.1"])
    ] = None,
) -> QuestionList:
    response.headers["Cache-Control"] = "no-store"
    bus = gateway.bus
    page = await list_questions(
        bus.log,
        bus.index,
        bus.checkpoints,
        tenant=access.tenant,
        after=None if cursor is None else parse_place(cursor),
        limit=limit,
        covers=access.covers,
    )
    following = None if page.next is None else place_text(page.next)
    query = urlencode({"limit": limit, "cursor": following})
    return QuestionList(
        items=[_item(question) for question in page.questions],
        next=following,
        links=ListLinks(next=None if following is None else link(f"/v1/questions?{query}")),
    )


def _item(question: WaitingQuestion) -> QuestionItem:
    state = question.state
    return QuestionItem(
        execution_id=state.execution_id,
        pipeline=state.pipeline,
        tenant=state.tenant,
        labels=dict(state.labels),
        step=question.step,
        ask=question.ask,
        signal=f"answer:{question.ask}",
        question=question.question,
        answer_schema=question.schema,
        since=ts_of(question.since_ms),
        links=Links.of(state.execution_id),
    )
