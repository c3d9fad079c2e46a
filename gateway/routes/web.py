"""The JavaScript client, as files of this very version; gateway/web has them."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import metadata
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request, Response

from tailrace.gateway.access.access import Everybody
from tailrace.gateway.http.problems import Problem, ProblemError
from tailrace.gateway.routes.problem_route import ProblemRoute

router = APIRouter(route_class=ProblemRoute, include_in_schema=False)

MODULES: Final = ("tailrace.js", "react.js")
# A module is loaded by pages of other origins too, and has no secrets.
_HEADERS: Final = {"Access-Control-Allow-Origin": "*", "X-Content-Type-Options": "nosniff"}
# A URL with a version has the same content for ever.
_FOR_EVER: Final = "public, max-age=31536000, immutable"


@router.get("/web/{name}", dependencies=[Everybody])
async def newest(name: str, request: Request) -> Response:
    """Asked again each time; the answer is short where it has not changed."""
    body, etag = _module(name)
    headers = {**_HEADERS, "ETag": etag, "Cache-Control": "no-cache"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="text/javascript", headers=headers)


@router.get("/web/{version}/{name}", dependencies=[Everybody])
async def of_version(version: str, name: str) -> Response:
    ours = metadata.version("tailrace")
    if version != ours:
        detail = f"this gateway has version {ours}; /web/{name} is the one of whichever gateway answers"
        raise ProblemError(Problem(404, "not_found", detail))
    body, etag = _module(name)
    return Response(body, media_type="text/javascript", headers={**_HEADERS, "ETag": etag, "Cache-Control": _FOR_EVER})


@cache
def _read(name: str) -> tuple[bytes, str]:
    body = files("tailrace.gateway").joinpath("web", name).read_bytes()
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def _module(name: str) -> tuple[bytes, str]:
    """Raises ProblemError."""
    if name not in MODULES:
        raise ProblemError(Problem(404, "not_found", f"there are {', '.join(MODULES)}"))
    return _read(name)
