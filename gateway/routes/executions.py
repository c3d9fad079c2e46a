"""Executions: submit one, ask for its state."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from bus import Bus, EventTooLargeError, ExecutionUnknownError, State
from bus.codec import decode
from bus.event import check_execution_id
from gateway.auth.access import Access, ReadAccess, SubmitAccess
from gateway.context import CurrentGateway, Gateway
from gateway.parsing import ExecutionId, json_body
from gateway.problem_docs import problems
from gateway.problems import Problem, ProblemError
from gateway.schemas import ExecutionState, Links, Submit, Submitted, Terminal

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
async def submit(access: SubmitAccess, request: Request, response: Response, gateway: CurrentGateway) -> Submitted:
    execution_id = await take_submission(request, gateway, access)
    state = await gateway.bus.state(execution_id)
    links = Links.of(execution_id)
    response.headers["Location"] = links.self
    return Submitted(execution_id=execution_id, status=state.status if state else "queued", links=links)


async def take_submission(request: Request, gateway: Gateway, access: Access) -> str:
    """Queue what the body asks for and return the execution's id. Raises ProblemError, ValidationError, BusError."""
    settings = gateway.settings
    given = await json_body(request, Submit, max_bytes=settings.max_body_bytes, within_seconds=settings.body_seconds)
    chosen = given.execution_id
    execution_id = gateway.bus.new_execution_id() if chosen is None else check_execution_id(chosen)
    access.check_new(execution_id, chosen=chosen is not None)
    try:
        return await gateway.bus.submit(
            given.pipeline, given.input, execution_id=execution_id, queue=given.queue, tenant=access.tenant
        )
    except EventTooLargeError as error:
        sizes = {"size_bytes": error.size_bytes, "limit_bytes": error.limit_bytes}
        detail = f"the input has {error.size_bytes} bytes as JSON, the limit is {error.limit_bytes}; send a reference"
        raise ProblemError(Problem(413, "input_too_large", detail, "input", sizes)) from None


@router.get("/{execution_id}", summary="The state of an execution", responses=problems(400, 404, 409, 503))
async def read_state(
    _: ReadAccess, response: Response, gateway: CurrentGateway, execution_id: ExecutionId
) -> ExecutionState:
    bus = gateway.bus
    response.headers["Cache-Control"] = "no-store"
    state, extent = await asyncio.gather(bus.state(execution_id), bus.log.extent(execution_id))
    if state is None:
        if extent.latest is None:
            raise ExecutionUnknownError(execution_id)
        # Events that another program wrote, and nothing else.
        state = State(execution_id, "unknown")
    return ExecutionState.of(
        state,
        first=None if extent.earliest is None else str(extent.earliest),
        last=None if extent.latest is None else str(extent.latest),
        terminal=await _terminal(bus, state),
    )


async def _terminal(bus: Bus, state: State) -> Terminal | None:
    if state.terminal is None:
        return None
    at = str(state.terminal)
    raw = await bus.commands.command("XRANGE", bus.keys.log(state.execution_id), at, at)
    if not raw:
        return Terminal(id=at, type=f"execution.{state.status}")
    entry = decode(*raw[0], limit_bytes=bus.settings.max_event_bytes)
    return Terminal(id=at, type=entry.type, data=entry.data)
