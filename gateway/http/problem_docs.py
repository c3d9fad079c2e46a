"""The problem responses of a route, as OpenAPI shows them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from tailrace.gateway.http.problems import MEDIA_TYPE
from tailrace.gateway.http.schemas import ProblemDetails

_REF: Final = "#/components/schemas/{model}"
_MEANINGS: Final = {
    400: "A malformed id, cursor or JSON; `field` names it",
    401: "No credential, or one that is not good, or not any more; `WWW-Authenticate` says what is expected",
    403: "The credential is not for this: a scope is missing, or the page may not use a cookie",
    404: "No such execution: it never existed, its retention has passed, or the credential does not cover it",
    406: "None of the representations is acceptable",
    408: "The body did not arrive in time",
    409: "Conflict: another submission has that id, or a key is not a log",
    413: "Larger than the limit; both sizes are told",
    415: "The body is not `application/json`",
    422: "Well-formed, but not what is expected; `errors` lists every field",
    429: "More than the limit, of requests, events or connections; `Retry-After` says when to come again",
    503: "Redis is away, or this gateway shuts down; `Retry-After` says when to try again",
}


# Of every route: without a good credential, over a limit, or while Redis is away.
_REFUSALS: Final = (401, 403, 429, 503)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For ``responses=`` of a route that asks who calls; how it refuses somebody is among them."""
    schema = {"$ref": _REF.format(model=ProblemDetails.__name__)}
    told: dict[int | str, dict[str, Any]] = {
        status: {
            "description": _MEANINGS[status],
            "content": {MEDIA_TYPE: {"schema": schema, "example": _example(status)}},
        }
        for status in sorted({*statuses, *_REFUSALS})
    }
    # Without it FastAPI would document a 422 of its own form, which is never answered here. And a document has the
    # models that are named so, in whichever application it is made.
    told["4XX"] = {
        "description": "Whatever else is wrong with a request",
        "model": ProblemDetails,
        "content": {MEDIA_TYPE: {"schema": schema, "example": _example(400)}},
    }
    return told


def _example(status: int) -> dict[str, Any]:
    title = HTTPStatus(status).phrase
    return {"type": "about:blank", "title": title, "status": status, "code": _CODES[status], "detail": "…"}


_CODES: Final = {
    400: "invalid_cursor",
    401: "unauthenticated",
    403: "insufficient_scope",
    404: "execution_unknown",
    406: "not_acceptable",
    408: "body_timeout",
    409: "execution_exists",
    413: "body_too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
    429: "too_many_requests",
    503: "bus_unavailable",
}
