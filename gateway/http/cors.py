"""Which pages of other origins may use the gateway (the Fetch standard, section 3.2); Starlette does the protocol."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from tailrace.gateway.http.problems import Problem

# Beside those that every page may read.
_EXPOSED: Final = ("Location", "Retry-After", "Allow", "WWW-Authenticate", "X-Request-Id")
_ASKED: Final = (
    "Accept",
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "Last-Event-ID",
    "Tailrace-Fence",
    "Tailrace-Producer",
    "Tailrace-Seq",
    "traceparent",
    "tracestate",
    "X-Request-Id",
)
_LOOPBACK: Final = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?"
_PREFLIGHT_SECONDS: Final = 600


class Cors(CORSMiddleware):
    """Starlette's, with a problem document for a preflight that is refused."""

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code == HTTPStatus.OK:
            return response
        refused = bytes(response.body).decode().removeprefix("Disallowed CORS ")
        detail = f"pages of other origins may not ask for this: {refused}; see TAILRACE_ALLOWED_ORIGINS"
        problem = Problem(400, "preflight_refused", detail).response()
        kept = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        problem.headers.update(kept)
        return problem


def cors_options(origins: Sequence[str], *, auth_required: bool) -> dict[str, Any]:
    """Arguments of CORSMiddleware.

    Without auth, pages of this machine are as welcome as its programs. Cookies go along to origins that are named,
    never to all.
    """
    return {
        "allow_origins": list(origins),
        "allow_origin_regex": None if auth_required else _LOOPBACK,
        "allow_credentials": auth_required and "*" not in origins,
        "allow_methods": ["GET", "HEAD", "POST", "DELETE"],
        "allow_headers": list(_ASKED),
        "expose_headers": list(_EXPOSED),
        "max_age": _PREFLIGHT_SECONDS,
    }
