"""What an EventSource gets in place of a 503, and who does not."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from tailrace.bus.model.counters import Counters
from tailrace.gateway.http.problems import Problem, unavailable
from tailrace.gateway.streams.deferred import deferral, is_deferred

AWAY = unavailable("bus_unavailable", "away")


def request(accept: str | None, method: str = "GET", query: bytes = b"") -> Request:
    headers = [] if accept is None else [(b"accept", accept.encode())]
    return Request({"type": "http", "method": method, "path": "/", "query_string": query, "headers": headers})


@pytest.mark.parametrize("accept", ["text/event-stream", "Text/Event-Stream", "text/event-stream, */*;q=0.1"])
def test_who_wants_a_stream_is_asked_to_come_again(accept: str) -> None:
    assert is_deferred(request(accept), AWAY)


@pytest.mark.parametrize(
    "accept", [None, "*/*", "application/json", "application/json, text/event-stream", "application/x-ndjson", "x"]
)
def test_who_takes_something_else_is_told_the_status(accept: str | None) -> None:
    assert not is_deferred(request(accept), AWAY)


def test_neither_is_any_other_problem_nor_a_post() -> None:
    assert not is_deferred(request("text/event-stream"), Problem(401, "unauthenticated", "who?"))
    assert not is_deferred(request("text/event-stream", "POST"), AWAY)


@pytest.mark.parametrize(("query", "lead"), [(b"", b"retry: "), (b"events=message", b"retry: ")])
def test_it_says_why_and_when(query: bytes, lead: bytes) -> None:
    response = deferral(request("text/event-stream", query=query), AWAY, Counters())
    assert response.status_code == 200
    assert bytes(response.body).startswith(lead)
    assert b'"code":"bus_unavailable"' in bytes(response.body)
    assert (b"event: stream.error" in bytes(response.body)) is (query == b"")
