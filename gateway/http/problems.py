"""Errors as RFC 9457 problem details, each with a ``code`` that stays the same for ever. Pure.

``type`` is ``about:blank`` and ``title`` the status' own phrase (RFC 9457, section 4.2.1): what a program goes by is
``code``, what a person reads is ``detail``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tailrace import bus
from tailrace.gateway.errors import GatewayError

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 1
_MAX_ERRORS: Final = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """``field`` is the one input to blame; ``more`` are further members, which go into the body as they are."""

    status: int
    code: str
    detail: str
    field: str | None = None
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def members(self) -> dict[str, Any]:
        members: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if self.field is not None:
            members["field"] = self.field
        return {**members, **self.more}

    def response(self) -> Response:
        headers = {"Cache-Control": "no-store", **self.headers}
        return Response(orjson.dumps(self.members()), self.status, headers=headers, media_type=MEDIA_TYPE)

    def closing(self) -> bytes:
        """A complete HTTP/1.1 response that closes its connection, for what no application gets to see."""
        response = self.response()
        response.headers["Connection"] = "close"
        head = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
        status = HTTPStatus(self.status)
        return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (status, status.phrase.encode(), head, bytes(response.body))


class ProblemError(GatewayError):
    """Raised by routes for what is wrong with a request and no business of the bus."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def problem_of(error: Exception) -> Problem:
    """What to tell a client about an error. Raises the error itself when it is not one of ours."""
    match error:
        case ProblemError():
            return error.problem
        case bus.BusError():
            return _of_bus(error)
        case RequestValidationError() | ValidationError():
            return of_validation(error.errors())
        case HTTPException():
            return _of_http(error)
        case _:
            raise error


def of_validation(complaints: Sequence[Any]) -> Problem:
    """From pydantic's list; the values themselves are not repeated: they may be large, or secret."""
    errors = [
        {"field": _path(complaint["loc"]), "code": complaint["type"], "detail": complaint["msg"]}
        for complaint in complaints[:_MAX_ERRORS]
    ]
    summary = "; ".join(f"{each['field']}: {each['detail']}" for each in errors[:3])
    if len(complaints) > 3:  # noqa: PLR2004 - a sentence stays readable; all of them stand in `errors`
        summary += f"; and {len(complaints) - 3} more"
    return Problem(422, "invalid_request", summary, errors[0]["field"] if errors else None, {"errors": errors})


def unavailable(code: str, detail: str) -> Problem:
    return Problem(503, code, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def _of_bus(error: bus.BusError) -> Problem:
    match error:
        case bus.EventTooLargeError():
            sizes = {"size_bytes": error.size_bytes, "limit_bytes": error.limit_bytes}
            return Problem(413, "event_too_large", error.detail, error.field, sizes)
        case bus.InvalidCursorError():
            return Problem(400, "invalid_cursor", error.detail, error.field)
        case bus.InvalidExecutionIdError():
            return Problem(400, "invalid_execution_id", error.detail, error.field)
        case bus.InvalidEventError():
            return Problem(400, "invalid_event", error.detail, error.field)
        case bus.InvalidInputError():
            return Problem(400, "invalid_input", error.detail, error.field)
        case bus.ExecutionUnknownError():
            return Problem(404, "execution_unknown", str(error), more={"execution_id": error.execution_id})
        case bus.ExecutionExistsError() | bus.TenantMismatchError():
            known = {"execution_id": error.execution_id}
            return Problem(409, "execution_exists", str(error), "execution_id", known)
        case bus.ExecutionEndedError():
            return _of_ending(error)
        case bus.ResultLostError():
            return Problem(410, "result_lost", str(error), more={"execution_id": error.execution_id})
        case bus.ConcurrencyConflictError():
            known = {"execution_id": error.execution_id, "concurrency_key": error.concurrency_key}
            return Problem(409, "concurrency_conflict", str(error), "concurrency_key", known)
        case bus.TransitionRefusedError():
            known = {"execution_id": error.execution_id, "execution_status": error.status}
            return Problem(409, "transition_refused", str(error), more=known)
        case bus.ExecutionNotEndedError():
            known = {"execution_id": error.execution_id, "execution_status": error.status}
            return Problem(409, "execution_not_ended", str(error), more=known)
        case bus.ControlTimeoutError():
            known = {"execution_id": error.execution_id, "request": error.request}
            return Problem(504, "control_timeout", str(error), more=known)
        case bus.QueueFullError():
            return unavailable("queue_full", str(error))
        case bus.ExecutionClosedError():
            known = {"execution_id": error.execution_id, "terminal_id": error.terminal_id}
            return Problem(409, "execution_closed", str(error), more=known)
        case bus.FenceStaleError() | bus.LeaseHeldError() | bus.LeaseLostError():
            return Problem(409, "execution_held", str(error), more={"execution_id": error.execution_id})
        case bus.AppendRefusedError():
            return Problem(409, "append_refused", str(error))
        case bus.ReplyError(code="WRONGTYPE"):
            return Problem(
                409, "not_a_log", "a key of this execution holds another type of value: another program wrote it"
            )
        case bus.BusClosedError():
            return unavailable("shutting_down", "this gateway is shutting down; another one can answer")
        case _:
            # The reason names hosts and ports of the inside; it stands in the gateway's log and in /readyz.
            return unavailable("bus_unavailable", "Redis does not answer this gateway; try again")


def _of_ending(error: bus.ExecutionEndedError) -> Problem:
    more = {"execution_id": error.execution_id, "data": error.data}
    match error:
        case bus.ExecutionCancelledError():
            return Problem(409, "execution_cancelled", str(error), more=more)
        case bus.ExecutionTimedOutError():
            return Problem(504, "execution_timed_out", str(error), more=more)
        case _:
            return Problem(500, "execution_failed", str(error), more=more)


def _of_http(error: HTTPException) -> Problem:
    status = HTTPStatus(error.status_code)
    code = status.phrase.lower().replace(" ", "_").replace("-", "_").replace("'", "")
    detail = error.detail if error.detail != status.phrase else status.description or status.phrase
    return Problem(error.status_code, code, detail, headers=error.headers or {})


def _path(location: Sequence[str | int]) -> str:
    """Name a field as the client knows it: ``input.path``, not ``body.input.path``."""
    inside = location[1:] if location and location[0] in {"body", "query", "path", "header"} else location
    return ".".join(map(str, inside)) or "body"
