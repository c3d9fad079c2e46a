"""What requests say, checked."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final, TypeVar

import orjson
from fastapi import Depends, Path
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.requests import Request

from tailrace.bus.model.event import check_execution_id
from tailrace.bus.model.numbers import load_json
from tailrace.gateway.http.problems import Problem, ProblemError, of_validation

# What is too large is still read, and thrown away, up to this many times the limit: a client that is cut off while
# it sends sees a broken connection and not the answer.
_PATIENCE: Final = 16

M = TypeVar("M", bound=BaseModel)


async def _execution_id(
    execution_id: Annotated[str, Path(description="1 to 128 letters, digits, '_' or '-'", examples=["build-7"])],
) -> str:
    return check_execution_id(execution_id)


ExecutionId = Annotated[str, Depends(_execution_id)]


def check_limit(limit: int, most: int, *, field: str = "limit") -> int:
    if limit > most:
        complaint = {"loc": ("query", field), "type": "less_than_equal", "msg": f"must be at most {most}"}
        raise ProblemError(of_validation([complaint]))
    return limit


async def json_body(request: Request, model: type[M], *, max_bytes: int, within_seconds: float) -> M:
    """Read and check a JSON body. Raises ProblemError, and pydantic's ValidationError."""
    _check_content_type(request)
    return model.model_validate(parse_json(await read_body(request, max_bytes, within_seconds)))


def parse_json(body: bytes) -> Any:
    """Raises ProblemError that tells where it stops being JSON; InvalidEventError for an integer beyond 64 bits."""
    try:
        return load_json(body)
    except orjson.JSONDecodeError as error:
        position = {"line": error.lineno, "column": error.colno, "offset": error.pos}
        detail = f"the body is not JSON: {error}" if body else "the body is empty; expected JSON"
        raise ProblemError(Problem(400, "invalid_json", detail, "body", {"position": position})) from None


async def read_body(request: Request, max_bytes: int, within_seconds: float) -> bytes:
    """Collect a body; never holds more than the limit and one chunk. Raises ProblemError, ClientDisconnect."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        detail = f"the body is encoded as {encoding[:80]!r}; send it as it is"
        headers = {"Accept-Encoding": "identity"}
        raise ProblemError(Problem(415, "unsupported_media_type", detail, "Content-Encoding", headers=headers))
    declared = declared_bytes(request.headers)
    if declared > max_bytes and "expect" in request.headers:
        # The client asks before it sends (RFC 9110, section 10.1.1).
        raise too_large(declared, max_bytes)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(within_seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= max_bytes:
                    chunks.append(chunk)
                else:
                    chunks.clear()
                if size > max_bytes * _PATIENCE:
                    break
    except TimeoutError:
        detail = f"the body did not arrive within {within_seconds:g} s"
        raise ProblemError(Problem(408, "body_timeout", detail, "body", headers={"Connection": "close"})) from None
    if size > max_bytes:
        raise too_large(max(size, declared), max_bytes)
    return b"".join(chunks)


def _check_content_type(request: Request) -> None:
    given = request.headers.get("content-type", "")
    # More than tidiness: a browser sends JSON to another origin only after that origin has agreed (CORS), while a form
    # or plain text goes out from any page of any stranger.
    if given.partition(";")[0].strip().lower() != "application/json":
        detail = f"send the body as application/json, not as {given[:80] or 'nothing'!r}"
        raise ProblemError(Problem(415, "unsupported_media_type", detail, "Content-Type"))


def declared_bytes(headers: Headers) -> int:
    declared = headers.get("content-length", "")
    return int(declared) if declared.isdecimal() and declared.isascii() and len(declared) < 20 else 0  # noqa: PLR2004 - 64 bits


def too_large(size: int, limit: int) -> ProblemError:
    detail = f"the body has {size} bytes or more, the limit is {limit}"
    sizes = {"size_bytes": size, "limit_bytes": limit}
    return ProblemError(Problem(413, "body_too_large", detail, "body", sizes, {"Connection": "close"}))
