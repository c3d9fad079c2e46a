"""Jobs that came to nothing: see them, submit them once more, or drop them."""

from __future__ import annotations

import time
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from tailrace.bus import DeadLetterUnknownError
from tailrace.bus.jobs.dead_letters import DeadLetter
from tailrace.bus.model.codec import ts_of
from tailrace.bus.model.event import check_name
from tailrace.bus.model.state import State
from tailrace.bus.queries.letters import list_letters, parse_place, place_text
from tailrace.gateway.access.access import Access, ControlAccess
from tailrace.gateway.access.origin import check_page
from tailrace.gateway.context import CurrentGateway, GatewayContext
from tailrace.gateway.http.links import link
from tailrace.gateway.http.problem_docs import problems
from tailrace.gateway.http.schemas import Links, ListLinks, Submitted
from tailrace.gateway.routes.problem_route import ProblemRoute

router = APIRouter(route_class=ProblemRoute, prefix="/dead-letters", tags=["dead letters"])

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200

Queue = Annotated[str, Path(description="The queue it was taken from", max_length=128, examples=["default"])]
EntryId = Annotated[str, Path(description="As the list shows it", max_length=64, examples=["1760000000000-0"])]


class LetterItem(BaseModel):
    """``execution_id`` is null for a job that named none; ``reason`` is for programs, ``message`` for people."""

    queue: str = Field(examples=["default"])
    entry_id: str = Field(examples=["1760000000000-0"])
    execution_id: str | None = Field(examples=["build-7"])
    pipeline: str | None = Field(examples=["document"])
    reason: str = Field(examples=["worker_lost"])
    message: str = Field(examples=["its worker was lost 3 times"])
    attempts: int = Field(examples=[3])
    ts: str = Field(description="when it was given up", examples=["2026-01-02T03:04:05.678000Z"])


class LetterList(BaseModel):
    """The newest first. A page may have fewer than ``limit``, even none: only a null ``next`` ends it."""

    items: list[LetterItem]
    next: str | None = Field(examples=["1760000000000-0@default"])
    links: ListLinks


@router.get(
    "",
    summary="List dead letters, the newest first",
    description="Jobs that failed for good, of executions that the credential covers; those that name no execution "
    "are for credentials that cover all.",
    responses=problems(400, 422, 503),
)
async def read_letters(
    access: ControlAccess,
    gateway: CurrentGateway,
    response: Response,
    *,
    queue: Annotated[str | None, Query(description="Only of this queue", examples=["default"])] = None,
    limit: Annotated[
        int, Query(ge=1, le=MAX_LIMIT, description="Most letters of a page", examples=[50])
    ] = DEFAULT_LIMIT,
    cursor: Annotated[
        str | None, Query(description="`next` of the page before", examples=["1760000000000-0@default"])
    ] = None,
) -> LetterList:
    response.headers["Cache-Control"] = "no-store"
    page = await list_letters(
        gateway.bus.log,
        gateway.bus.dead_letters,
        queue=None if queue is None else check_name(queue, field="queue"),
        after=None if cursor is None else parse_place(cursor),
        limit=limit,
        covers=lambda execution_id, state: _covers(access, execution_id, state),
    )
    following = None if page.next is None else place_text(page.next)
    given = {"queue": queue, "limit": limit, "cursor": following}
    query = urlencode({name: value for name, value in given.items() if value is not None})
    return LetterList(
        items=[_item(letter) for letter in page.letters],
        next=following,
        links=ListLinks(next=None if following is None else link(f"/v1/dead-letters?{query}")),
    )


@router.post(
    "/{queue}/{entry_id}/requeue",
    status_code=202,
    summary="Submit a dead letter once more",
    description="The same input under a new id, which is answered; repeating this gives the same id. The letter is "
    "dropped. The execution that came to nothing stays as it is.",
    responses=problems(400, 404, 409, 422, 503),
)
async def requeue(
    access: ControlAccess, request: Request, gateway: CurrentGateway, queue: Queue, entry_id: EntryId
) -> Submitted:
    check_page(request, gateway)
    await _find(gateway, access, queue, entry_id)
    if access.has_quotas:
        await access.spend_quota(0, executions=1)
    execution_id = await gateway.bus.dead_letters.requeue(queue, entry_id, ts=ts_of(time.time_ns() // 1_000_000))
    state = await gateway.bus.state(execution_id)
    links = Links.of(execution_id)
    return Submitted(execution_id=execution_id, status=state.status if state else "queued", links=links)


@router.delete(
    "/{queue}/{entry_id}",
    status_code=204,
    summary="Drop a dead letter",
    response_class=Response,
    responses={204: {"description": "It is gone"}, **problems(400, 404, 422, 503)},
)
async def drop(access: ControlAccess, gateway: CurrentGateway, queue: Queue, entry_id: EntryId) -> Response:
    await _find(gateway, access, queue, entry_id)
    await gateway.bus.dead_letters.drop(queue, entry_id)
    return Response(status_code=204)


async def _find(gateway: GatewayContext, access: Access, queue: str, entry_id: str) -> None:
    """Raises DeadLetterUnknownError, in the same words for another tenant's; InvalidInputError, InvalidCursorError."""
    letter = await gateway.bus.dead_letters.get(check_name(queue, field="queue"), entry_id)
    execution_id = letter.execution_id
    state = None if execution_id is None else await gateway.bus.state(execution_id)
    if not _covers(access, execution_id, state):
        raise DeadLetterUnknownError(queue, entry_id)


def _covers(access: Access, execution_id: str | None, state: State | None) -> bool:
    return access.sees_all if execution_id is None else access.allows(execution_id, "control")(state)


def _item(letter: DeadLetter) -> LetterItem:
    return LetterItem(
        queue=letter.queue,
        entry_id=letter.entry_id,
        execution_id=letter.execution_id,
        pipeline=letter.pipeline,
        reason=letter.reason,
        message=letter.message,
        attempts=letter.attempts,
        ts=letter.ts,
    )
