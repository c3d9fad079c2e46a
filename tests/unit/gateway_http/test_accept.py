from __future__ import annotations

import pytest

from tailrace.gateway.http.accept import choose, parse

OFFERED = {"text/event-stream": "stream", "application/json": "page"}


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("text/event-stream", "stream"),
        ("application/json", "page"),
        ("Application/JSON; charset=utf-8", "page"),
        ("application/json, text/event-stream;q=0.5", "page"),
        ("application/json;q=0.2, text/event-stream;q=0.9", "stream"),
        ("text/event-stream, */*", "stream"),
        ("application/json, text/plain, */*", "page"),
        ("text/*", "stream"),
        ("application/*", "page"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "default"),
        ("*/*", "default"),
        ("", "default"),
        (None, "default"),
        ("text/event-stream, application/json", "default"),
        ("*/*, text/event-stream;q=0", "page"),
        ("image/png", None),
        ("text/event-stream;q=0, application/json;q=0", None),
        ("nonsense", None),
    ],
)
def test_accept_chooses_the_representation_the_client_prefers(accept: str | None, chosen: str | None) -> None:
    for default in ("stream", "page"):
        assert choose(accept, OFFERED, default=default) == (default if chosen == "default" else chosen)


@pytest.mark.parametrize("accept", ["a/b;q=2", "a/b;q=-1", "a/b;q=x", "a/b;q=0.1234", "a", "a/b/c", ",", ";", "/;q"])
def test_a_malformed_range_is_as_good_as_absent(accept: str) -> None:
    assert parse(f"{accept}, text/event-stream;q=0.5") in (
        {"text/event-stream": 0.5},
        {"/": 1.0, "text/event-stream": 0.5},
    )
