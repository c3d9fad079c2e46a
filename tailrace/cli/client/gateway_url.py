"""Where gateways are. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from tailrace.cli.errors import CliError

DEFAULT_GATEWAY: Final = "http://127.0.0.1:8080"


def check_gateway_url(url: str) -> str:
    """Return it without a trailing slash. Raises CliError."""
    try:
        parts = urlsplit(url)
        port_is_legal = parts.port is None or parts.port > 0
    except ValueError as error:
        raise CliError(f"--gateway: {url!r} is not a URL ({error}); as in {DEFAULT_GATEWAY}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_legal:
        raise CliError(f"--gateway: {url!r} is not an http(s) URL with a host; as in {DEFAULT_GATEWAY}")
    if parts.query or parts.fragment:
        raise CliError(f"--gateway: {url!r} must not have a query or fragment; as in {DEFAULT_GATEWAY}")
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def all_loopback(urls: Sequence[str]) -> bool:
    return all(map(is_loopback, urls))
