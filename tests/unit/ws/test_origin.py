"""A WebSocket is not protected by CORS: the page that opens it has to be of a host that is ours."""

from __future__ import annotations

import pytest

from tailrace.gateway.access.origin import is_allowed


@pytest.mark.parametrize(
    "origin",
    ["http://localhost", "http://localhost:3000", "https://127.0.0.1:8443", "http://[::1]:80", "https://BUS.example:1"],
)
def test_pages_of_loopback_and_of_allowed_hosts_may(origin: str) -> None:
    assert is_allowed(origin, ["Bus.example"])


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://",
        "https://evil.example",
        "https://localhost.evil.example",
        "https://evil.example/localhost",
        "https://localhost@evil.example",
        "https://bus.example.evil.example",
        "file://localhost",
        "chrome-extension://localhost",
        "http://[::1",
        "localhost",
        "http://127.0.0.1:80:80@evil.example",
    ],
)
def test_pages_of_strangers_may_not(origin: str) -> None:
    assert not is_allowed(origin, ["bus.example"])


def test_a_star_lets_every_page_in() -> None:
    assert is_allowed("https://any.example", ["*"])
