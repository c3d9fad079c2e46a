"""What an EventSource gets in place of a 503, which would end it for good (WHATWG HTML, section 9.2.3)."""

from __future__ import annotations

import random
from typing import Final

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tailrace.bus import BusError
from tailrace.bus.model.counters import Counters
from tailrace.gateway.context import SCOPE_KEY, GatewayContext
from tailrace.gateway.http.accept import accepted, choose
from tailrace.gateway.http.problems import Problem, ProblemError, problem_of
from tailrace.gateway.wire.formats import SSE, SSE_UNNAMED, Format

SSE_TYPE: Final = "text/event-stream"
_JSON_TYPE: Final = "application/json"
_OFFERED: Final = {kind: kind for kind in (_JSON_TYPE, SSE_TYPE)}
_UNAVAILABLE: Final = 503
# What ``answer`` has an answer for.
PROBLEMS: Final = (BusError, ProblemError, RequestValidationError, ValidationError, HTTPException)
# About how long a browser waits before it asks again; spread, so that not all ask at once.
_RETRY_MS: Final = 2000


def answer(request: Request, error: Exception) -> Response:
    """Tell a client about an error of ours. Raises the error itself when it is none of ours."""
    problem = problem_of(error)
    gateway: GatewayContext | None = request.scope.get(SCOPE_KEY)
    if gateway is not None and is_deferred(request, problem):
        return deferral(request, problem, gateway.bus.counters)
    return problem.response()


def is_deferred(request: Request, problem: Problem) -> bool:
    """Only where nothing but a stream was asked for: other clients know what a 503 is."""
    if problem.status != _UNAVAILABLE or request.method != "GET":
        return False
    return choose(accepted(request.headers), _OFFERED, default=_JSON_TYPE) == SSE_TYPE


def deferral(request: Request, problem: Problem, counters: Counters) -> Response:
    """A stream that only says why there is none, and when to come again."""
    counters.add("streams_deferred")
    rendering = SSE_UNNAMED if request.query_params.get("events") == "message" else SSE
    return _deferred(rendering, {"code": problem.code, "detail": problem.detail})


def redis_away(counters: Counters, rendering: Format, execution_id: str | None = None) -> Response:
    """The same, where Redis cannot be reached."""
    counters.add("streams_deferred")
    payload = {
        "code": "bus_unavailable",
        "detail": "Redis cannot be reached at the moment; nothing is lost, come again with the same cursor",
    }
    return _deferred(rendering, payload if execution_id is None else {**payload, "execution_id": execution_id})


def _deferred(rendering: Format, payload: dict[str, str]) -> Response:
    retry_ms = random.randint(_RETRY_MS // 2, _RETRY_MS * 3 // 2)
    frames = rendering.control("stream.error", {**payload, "retry_ms": retry_ms})
    headers = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
    return Response(frames, media_type=SSE_TYPE, headers=headers)
