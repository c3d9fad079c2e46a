"""Executions: submit one, ask for its state."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from bus import EventTooLargeError
from gateway.context import CurrentGateway, Gateway
from gateway.parsing import ExecutionId, json_body
from gateway.problem_docs import problems
from gateway.problems import Problem, ProblemError
from gateway.schemas import ExecutionState, Links, Submit, Submitted
from gateway.state_view import state_of

router = APIRouter(prefix="/executions", tags=["executions"])


@router.post(
    "",
    status_code=202,
    summary="Submit an execution",
    description="Queues it for a worker. The same submission under the same `execution_id` again changes nothing and "
    "is answered alike; a different one is a conflict.",
    responses={
        202: {"headers": {"Location": {"description": "The execution's state", "schema": {"type": "string"}}}},
        **problems(400, 408, 409, 413, 415, 422, 503),
    },
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/json": {"schema": Submit.model_json_schema()}}}
    },
)
async def submit(request: Request, response: Response, gateway: CurrentGateway) -> Submitted:
    execution_id = await take_submission(request, gateway)
    state = await gateway.bus.state(execution_id)
    links = Links.of(execution_id)
    response.headers["Location"] = links.self
    return Submitted(execution_id=execution_id, status=state.status if state else "queued", links=links)


async def take_submission(request: Request, gateway: Gateway) -> str:
    """Queue what the body asks for and return the execution's id. Raises ProblemError, ValidationError, BusError."""
    settings = gateway.settings
    given = await json_body(request, Submit, max_bytes=settings.max_body_bytes, within_seconds=settings.body_seconds)
    try:
        return await gateway.bus.submit(given.pipeline, given.input, execution_id=given.execution_id, queue=given.queue)
    except EventTooLargeError as error:
        sizes = {"size_bytes": error.size_bytes, "limit_bytes": error.limit_bytes}
        detail = f"the input has {error.size_bytes} bytes as JSON, the limit is {error.limit_bytes}; send a reference"
        raise ProblemError(Problem(413, "input_too_large", detail, "input", sizes)) from None


@router.get("/{execution_id}", summary="The state of an execution", responses=problems(400, 404, 409, 503))
async def read_state(response: Response, gateway: CurrentGateway, execution_id: ExecutionId) -> ExecutionState:
    response.headers["Cache-Control"] = "no-store"
    return await state_of(gateway.bus, execution_id)
