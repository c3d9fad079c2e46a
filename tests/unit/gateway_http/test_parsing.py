from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from tailrace.gateway.http.parsing import check_limit, json_body, parse_json, read_body
from tailrace.gateway.http.problems import Problem, ProblemError
from tailrace.gateway.http.schemas import Submit

pytestmark = pytest.mark.anyio


class Upload:
    """A request whose body comes in chunks; counts how many were taken."""

    def __init__(self, chunks: Iterable[bytes], *, stall: bool = False, **headers: str) -> None:
        self._chunks = iter(chunks)
        self._stall = stall
        self.taken = 0
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        self.request = Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, self._receive)

    async def _receive(self) -> Message:
        chunk = next(self._chunks, None)
        if chunk is not None:
            self.taken += 1
            return {"type": "http.request", "body": chunk, "more_body": True}
        if self._stall:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b"", "more_body": False}


async def refused(upload: Upload, *, max_bytes: int = 100, within_seconds: float = 5) -> Problem:
    with pytest.raises(ProblemError) as refusal:
        await read_body(upload.request, max_bytes, within_seconds)
    return refusal.value.problem


async def test_a_body_at_the_limit_is_read() -> None:
    assert await read_body(Upload([b"x" * 60, b"y" * 40]).request, 100, 5) == b"x" * 60 + b"y" * 40


async def test_a_body_over_the_limit_is_refused_with_its_size_and_the_limit() -> None:
    problem = await refused(Upload([b"x" * 60, b"y" * 41], content_length="101"))
    assert (problem.status, problem.code) == (413, "body_too_large")
    assert problem.more == {"size_bytes": 101, "limit_bytes": 100}


async def test_an_endless_body_is_given_up() -> None:
    upload = Upload(b"x" * 100 for _ in range(1_000_000))
    assert (await refused(upload)).status == 413
    assert upload.taken < 20


async def test_a_client_that_asks_first_is_refused_before_it_sends() -> None:
    upload = Upload([b"x" * 101], content_length="101", expect="100-continue")
    assert (await refused(upload)).status == 413
    assert upload.taken == 0


@pytest.mark.parametrize("declared", ["-1", "x", "", "9" * 400, "१२३"])
async def test_a_nonsensical_length_is_not_believed(declared: str) -> None:
    request = Upload([b"{}"]).request
    request.scope["headers"] = [(b"content-length", declared.encode()), (b"expect", b"100-continue")]
    assert await read_body(request, 100, 5) == b"{}"


async def test_a_body_that_never_arrives_is_given_up() -> None:
    problem = await refused(Upload([b"x"], stall=True), within_seconds=0.05)
    assert (problem.status, problem.code) == (408, "body_timeout")


async def test_a_client_that_leaves_while_sending_raises_client_disconnect() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    request = Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)
    with pytest.raises(ClientDisconnect):
        await read_body(request, 100, 5)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"a":}', b"nul", b'{"a":NaN}', b'"\xff"', b"[" * 100_000, b'{"a":1}x', b'"\\ud800"', b"\x00"],
)
async def test_what_is_not_json_is_refused_with_its_position(body: bytes) -> None:
    with pytest.raises(ProblemError) as refusal:
        parse_json(body)
    problem = refusal.value.problem
    assert (problem.status, problem.code, problem.field) == (400, "invalid_json", "body")
    assert problem.more["position"].keys() == {"line", "column", "offset"}


async def test_the_position_counts_lines_and_columns() -> None:
    with pytest.raises(ProblemError) as refusal:
        parse_json(b'{"a":\n x}')
    assert refusal.value.problem.more["position"] == {"line": 2, "column": 2, "offset": 7}


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
async def test_a_body_that_does_not_say_it_is_json_is_refused(content_type: str) -> None:
    with pytest.raises(ProblemError) as refusal:
        await json_body(Upload([b"{}"], content_type=content_type).request, Submit, max_bytes=100, within_seconds=5)
    assert refusal.value.problem.code == "unsupported_media_type"


async def test_a_json_body_becomes_its_model() -> None:
    upload = Upload([b'{"pipeline":', b'"document"}'], content_type="application/json; charset=utf-8")
    given = await json_body(upload.request, Submit, max_bytes=100, within_seconds=5)
    assert given == Submit(pipeline="document")


async def test_a_limit_over_the_most_is_refused_and_named() -> None:
    assert check_limit(5, 5) == 5
    with pytest.raises(ProblemError) as refusal:
        check_limit(6, 5)
    assert (refusal.value.problem.status, refusal.value.problem.field) == (422, "limit")
