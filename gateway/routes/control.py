"""POST /v1/executions/{id}/cancel, pause, resume and signals: asking the owner, on any host."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response

from tailrace.bus.control import Outcome, await_outcome
from tailrace.bus.errors import ControlTimeoutError
from tailrace.bus.model.cursor import parse
from tailrace.gateway.access.access import ControlAccess
from tailrace.gateway.access.origin import is_allowed
from tailrace.gateway.auth.refusals import ForbiddenError
from tailrace.gateway.context import CurrentGateway, GatewayContext
from tailrace.gateway.http.control_schemas import (
    CancelBody,
    ControlBody,
    Controlled,
    PauseBody,
    ResumeBody,
    SignalBody,
)
from tailrace.gateway.http.parsing import ExecutionId, json_body
from tailrace.gateway.http.problem_docs import problems
from tailrace.gateway.routes.problem_route import ProblemRoute
from tailrace.gateway.streams.long_poll import follow_by_news

router = APIRouter(route_class=ProblemRoute, prefix="/executions", tags=["control"])

MAX_WAIT_SECONDS: Final = 60.0
_EMPTY: Final = frozenset({None, "0"})


class ControlRoute:
    """One request, and how it is answered."""

    def __init__(
        self,
        access: ControlAccess,
        request: Request,
        response: Response,
        gateway: CurrentGateway,
        wait: Annotated[
            float, Query(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait for the outcome", examples=[10])
        ] = 0.0,
    ) -> None:
        self._access = access
        self._request = request
        self._response = response
        self._gateway = gateway
        self._wait_seconds = wait

    async def answer(self, execution_id: str, model: type[ControlBody]) -> Controlled:
        """Raises ProblemError and BusError, as routes may."""
        given = await self._given(model)
        outcome = await given.send(self._gateway.bus.control, execution_id, self._access.asker(given.by))
        if self._wait_seconds:
            outcome = await self._await(outcome)
        self._response.status_code = 202 if outcome.event is None else 200
        self._response.headers["Cache-Control"] = "no-store"
        return Controlled.of(outcome)

    async def _await(self, asked: Outcome) -> Outcome:
        """The outcome, or what was asked when there is none in time, or when this gateway drains.

        Raises BusUnavailableError; ClientDisconnect when the client has gone.
        """
        items = follow_by_news(self._request, self._access, asked.execution_id, parse(asked.request))
        try:
            return await await_outcome(asked, items, self._gateway.bus.control.status, self._wait_seconds)
        except ControlTimeoutError:
            return asked

    async def _given(self, model: type[ControlBody]) -> ControlBody:
        request, settings = self._request, self._gateway.settings
        headers = request.headers
        if headers.get("content-length") in _EMPTY and "transfer-encoding" not in headers:
            _check_page(request, self._gateway)
            return model.model_validate({})
        return await json_body(request, model, max_bytes=settings.max_body_bytes, within_seconds=settings.body_seconds)


def _check_page(request: Request, gateway: GatewayContext) -> None:
    """A request without a body is one that any page of any stranger may send, without asking (CORS).

    Raises ForbiddenError.
    """
    origin = request.headers.get("origin")
    if gateway.auth.required or origin is None or is_allowed(origin, gateway.settings.allowed_hosts):
        # A credential is not sent along by a stranger's page; see gateway.auth.origins.
        return
    detail = f"pages of {origin[:80]!r} may not send requests here; add its host to TAILRACE_ALLOWED_HOSTS"
    raise ForbiddenError("origin_not_allowed", detail, "Origin")


CurrentControl = Annotated[ControlRoute, Depends()]


def _documented(model: type[ControlBody], *, required: bool = False) -> dict[str, Any]:
    schema = model.model_json_schema()
    return {
        "response_model": Controlled,
        "responses": {
            200: {"description": "The outcome: so it is, and so it stands in the log"},
            202: {"model": Controlled, "description": "Requested: it is in the log, and has not been answered yet"},
            **problems(400, 404, 408, 409, 413, 415, 422),
        },
        "openapi_extra": {
            "requestBody": {"required": required, "content": {"application/json": {"schema": schema}}},
        },
    }


@router.post(
    "/{execution_id}/cancel",
    summary="Cancel an execution",
    description="It ends in `execution.cancelled`, unless it has its ending before it hears of that. Who runs it has "
    "`grace_seconds` to stop; then it is ended by force. One that waits for a worker ends at once.",
    **_documented(CancelBody),
)
async def cancel(control: CurrentControl, execution_id: ExecutionId) -> Controlled:
    return await control.answer(execution_id, CancelBody)


@router.post(
    "/{execution_id}/pause",
    summary="Pause an execution",
    description="It pauses where it next emits an event, or between two steps, until it is resumed.",
    **_documented(PauseBody),
)
async def pause(control: CurrentControl, execution_id: ExecutionId) -> Controlled:
    return await control.answer(execution_id, PauseBody)


@router.post("/{execution_id}/resume", summary="Resume a paused execution", **_documented(ResumeBody))
async def resume(control: CurrentControl, execution_id: ExecutionId) -> Controlled:
    return await control.answer(execution_id, ResumeBody)


@router.post(
    "/{execution_id}/signals",
    summary="Send an execution a signal",
    description="Its body is given it when it asks for a signal of that name. The outcome says that it has arrived.",
    **_documented(SignalBody, required=True),
)
async def signal(control: CurrentControl, execution_id: ExecutionId) -> Controlled:
    return await control.answer(execution_id, SignalBody)
