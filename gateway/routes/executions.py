"""Executions: submit one, ask for its state."""

from __future__ import annotations

from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response

from tailrace.bus import ConcurrencyConflictError, EventTooLargeError, InvalidInputError
from tailrace.bus.model.event import check_execution_id
from tailrace.bus.model.submission import MAX_KEY_CHARS, check_key, id_of_key
from tailrace.bus.queries.state import state_of
from tailrace.gateway.access.access import Access, AdminAccess, ReadAccess, SubmitAccess
from tailrace.gateway.context import CurrentGateway, GatewayContext
from tailrace.gateway.http.parsing import ExecutionId, json_body
from tailrace.gateway.http.problem_docs import problems
from tailrace.gateway.http.problems import Problem, ProblemError
from tailrace.gateway.http.schemas import ExecutionState, Links, Submit, Submitted
from tailrace.gateway.routes.problem_route import ProblemRoute

router = APIRouter(route_class=ProblemRoute, prefix="/executions", tags=["executions"])

IDEMPOTENCY_KEY: Final = "Idempotency-Key"
TAKES_SUBMISSION: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": IDEMPOTENCY_KEY,
            "in": "header",
            "required": False,
            "description": "instead of an `execution_id`: a retry with the same key submits nothing twice",
            "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARS},
            "example": "order-1017",
        },
        {
            "name": "traceparent",
            "in": "header",
            "required": False,
            "description": "W3C Trace Context: all events of the execution carry it, as `meta.traceparent`",
            "schema": {"type": "string"},
            "example": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        },
    ],
    "requestBody": {"required": True, "content": {"application/json": {"schema": Submit.model_json_schema()}}},
}


@router.post(
    "",
    status_code=202,
    summary="Submit an execution",
    description="Queues it for a worker. The same submission under the same `execution_id`, or with the same "
    "`Idempotency-Key`, again changes nothing and is answered alike; a different one is a conflict. So is a second one "
    "of a `concurrency_key` while the first is in flight; the problem names that one.",
    responses={
        202: {"headers": {"Location": {"description": "The execution's state", "schema": {"type": "string"}}}},
        **problems(400, 408, 409, 413, 415, 422, 503),
    },
    openapi_extra=TAKES_SUBMISSION,
)
async def submit(access: SubmitAccess, request: Request, response: Response, gateway: CurrentGateway) -> Submitted:
    execution_id = await take_submission(request, gateway, access)
    state = await gateway.bus.state(execution_id)
    links = Links.of(execution_id)
    response.headers["Location"] = links.self
    return Submitted(execution_id=execution_id, status=state.status if state else "queued", links=links)


async def take_submission(request: Request, gateway: GatewayContext, access: Access) -> str:
    """Queue what the body asks for and return the execution's id. Raises ProblemError, ValidationError, BusError."""
    settings = gateway.settings
    given = await json_body(request, Submit, max_bytes=settings.max_body_bytes, within_seconds=settings.body_seconds)
    execution_id = _id_of(request, gateway, access, given.execution_id)
    access.check_new(execution_id, chosen=given.execution_id is not None)
    if settings.submit_queues and given.queue not in settings.submit_queues:
        detail = f"this gateway submits to the queues {', '.join(settings.submit_queues)} only"
        raise ProblemError(Problem(403, "queue_not_allowed", detail, "queue"))
    if access.has_quotas:
        await access.spend_quota(len(orjson.dumps(given.input)), executions=1)
    try:
        return await gateway.bus.submit(
            given.pipeline,
            given.input,
            execution_id=execution_id,
            queue=given.queue,
            tenant=access.tenant,
            concurrency_key=given.concurrency_key,
            max_attempts=given.max_attempts,
            delay_seconds=given.delay_seconds,
            timeout_seconds=given.timeout_seconds,
            start_within_seconds=given.start_within_seconds,
            labels=given.labels,
            trace=request.headers.get("traceparent"),
        )
    except ConcurrencyConflictError as error:
        if gateway.authorize is None and access.principal.names(error.execution_id):
            raise
        detail = "another execution with this concurrency key is still in flight; wait for its end"
        raise ProblemError(Problem(409, "concurrency_conflict", detail, "concurrency_key")) from None
    except EventTooLargeError as error:
        sizes = {"size_bytes": error.size_bytes, "limit_bytes": error.limit_bytes}
        detail = f"the input has {error.size_bytes} bytes as JSON, the limit is {error.limit_bytes}; send a reference"
        raise ProblemError(Problem(413, "input_too_large", detail, "input", sizes)) from None


def _id_of(request: Request, gateway: GatewayContext, access: Access, chosen: str | None) -> str:
    keys = request.headers.getlist(IDEMPOTENCY_KEY)
    if len(keys) > 1:
        raise InvalidInputError(IDEMPOTENCY_KEY, f"is there {len(keys)} times; send one")
    key = keys[0] if keys else None
    if chosen is not None and key is not None:
        raise InvalidInputError(IDEMPOTENCY_KEY, "stands for an execution_id: give one of the two")
    if key is not None:
        return id_of_key(access.tenant, check_key(key, field=IDEMPOTENCY_KEY))
    return gateway.bus.new_execution_id() if chosen is None else check_execution_id(chosen)


@router.get("/{execution_id}", summary="The state of an execution", responses=problems(400, 404, 409, 503))
async def read_state(
    _: ReadAccess, response: Response, gateway: CurrentGateway, execution_id: ExecutionId
) -> ExecutionState:
    response.headers["Cache-Control"] = "no-store"
    state = await state_of(gateway.bus.log, execution_id)
    return ExecutionState(**state.model_dump(), links=Links.of(execution_id))


@router.delete(
    "/{execution_id}",
    status_code=204,
    summary="Forget an execution that has ended",
    description="Its events, its state and its place in lists are deleted, and its id can be used again. One that has "
    "not ended is refused: cancel it first. Who watches it then is told that there is no such execution.",
    response_class=Response,
    responses={204: {"description": "It is gone"}, **problems(400, 404, 409, 503)},
)
async def delete(_: AdminAccess, gateway: CurrentGateway, execution_id: ExecutionId) -> Response:
    await gateway.bus.delete(execution_id)
    return Response(status_code=204)
