"""From which pages a cookie is taken."""

from __future__ import annotations

import pytest

from tailrace.gateway.auth.origins import is_origin, may_use_cookie

HOST = "bus.example:8443"
ALLOWED = ("https://app.example",)


def may(method: str | None, origin: str | None = None, fetch_site: str | None = None) -> bool:
    return may_use_cookie(method=method, origin=origin, host=HOST, fetch_site=fetch_site, allowed=ALLOWED)


@pytest.mark.parametrize("method", ["GET", "POST", None])
@pytest.mark.parametrize("origin", ["https://bus.example:8443", "https://app.example", "HTTPS://APP.example"])
def test_our_own_pages_and_those_that_are_named_may(method: str | None, origin: str) -> None:
    assert may(method, origin, "cross-site")


@pytest.mark.parametrize("method", ["GET", "POST", None])
@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "https://bus.example",
        "https://bus.example:8443.evil.example",
        "https://app.example.evil.example",
        "http://app.example",
        "null",
        "",
        "file://",
        "https://[",
    ],
)
def test_no_other_page_may(method: str | None, origin: str) -> None:
    assert not may(method, origin, "same-origin")


@pytest.mark.parametrize(("fetch_site", "allowed"), [(None, True), ("none", True), ("same-origin", True)])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_reading_without_an_origin_is_the_users_own_doing(method: str, fetch_site: str | None, allowed: bool) -> None:
    assert may(method, None, fetch_site) is allowed


@pytest.mark.parametrize("fetch_site", ["cross-site", "same-site"])
def test_but_not_where_the_browser_says_that_another_site_made_it(fetch_site: str) -> None:
    assert not may("GET", None, fetch_site)


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "OPTIONS", None])
def test_changing_something_or_opening_a_socket_takes_an_origin(method: str | None) -> None:
    assert not may(method, None, "same-origin")


@pytest.mark.parametrize("origin", ["https://a.example", "http://localhost:3000", "http://[::1]:80"])
def test_an_origin_is_a_scheme_a_host_and_a_port(origin: str) -> None:
    assert is_origin(origin)


@pytest.mark.parametrize("origin", ["https://a.example/", "a.example", "https://", "ftp://a", "https://a/b", "", "*"])
def test_anything_else_is_none(origin: str) -> None:
    assert not is_origin(origin)
