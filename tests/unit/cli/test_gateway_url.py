from __future__ import annotations

import pytest

from tailrace.cli.client.gateway_url import check_gateway_url, is_loopback
from tailrace.cli.commands.options import gateways_of
from tailrace.cli.errors import CliError


@pytest.mark.parametrize("url", ["http://a", "https://a:8443", "http://[::1]:8080", "http://a/behind/a/proxy"])
def test_an_http_url_is_taken(url: str) -> None:
    assert check_gateway_url(url + "/") == url


@pytest.mark.parametrize(
    "url", ["", "a:8080", "ftp://a", "http://", "http://a:0", "http://a:99999", "http://[", "http://a?b", "redis://a"]
)
def test_anything_else_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(CliError, match=r"--gateway: .* as in http://127\.0\.0\.1:8080"):
        check_gateway_url(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [("http://127.0.0.1:1", True), ("http://[::1]", True), ("http://localhost:1", True), ("http://a.test", False)],
)
def test_loopback_is_recognised(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected


def test_a_gateway_and_redis_are_not_both_given() -> None:
    with pytest.raises(CliError, match="give one of them"):
        gateways_of(["http://a"], "redis://b")


def test_the_environment_names_gateways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_GATEWAY", "http://a, http://b/")

    assert gateways_of(None, None) == ["http://a", "http://b"]
    assert gateways_of(["http://c"], None) == ["http://c"]
    assert gateways_of(None, "redis://b") == []
