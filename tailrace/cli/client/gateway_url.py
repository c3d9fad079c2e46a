"""Where gateways are. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final, Self
from urllib.parse import unquote, urlsplit, urlunsplit

from tailrace.cli.errors import CliError

DEFAULT_GATEWAY: Final = "http://127.0.0.1:8080"


class GatewayUrl(str):
    """A gateway's URL without the user and password that were given in it, so that it can be shown anywhere."""

    __slots__ = ("credentials",)
    credentials: tuple[str, str] | None

    def __new__(cls, url: str, credentials: tuple[str, str] | None = None) -> Self:
        made = super().__new__(cls, url)
        made.credentials = credentials
        return made


def check_gateway_url(url: str) -> GatewayUrl:
    """Return it without a trailing slash. Raises CliError."""
    import httpx  # noqa: PLC0415 - see tailrace.app

    from tailrace.bus.redis.address import redacted  # noqa: PLC0415 - see tailrace.app

    wrong = f"--gateway: {redacted(url)!r}"
    try:
        parts = urlsplit(url)
        port_is_legal = parts.port is None or parts.port > 0
        # Its parser is stricter: internationalised names, control characters.
        _ = httpx.URL(url).host
    except (ValueError, httpx.InvalidURL):
        raise CliError(f"{wrong} is not a valid URL; as in {DEFAULT_GATEWAY}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_legal:
        raise CliError(f"{wrong} is not an http(s) URL with a host; as in {DEFAULT_GATEWAY}")
    if parts.query or parts.fragment:
        raise CliError(f"{wrong} must not have a query or fragment; as in {DEFAULT_GATEWAY}")
    given, at, host = parts.netloc.rpartition("@")
    user, _, password = given.partition(":")
    shown = urlunsplit(parts._replace(netloc=host)).rstrip("/")
    return GatewayUrl(shown, (unquote(user), unquote(password)) if at else None)


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def all_loopback(urls: Sequence[str]) -> bool:
    return all(map(is_loopback, urls))
