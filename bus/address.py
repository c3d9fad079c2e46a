"""From a URL to connections; redis-py knows the way."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from bus.errors import InvalidInputError
from bus.link import Dial

SCHEMES: Final = ("redis", "rediss", "unix", "embedded")


def check_url(url: str) -> str:
    """Return the scheme. Raises InvalidInputError that names what is wrong."""
    scheme = urlsplit(url).scheme
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise InvalidInputError("redis_url", f"{redacted(url)!r} has none of the schemes {known}")
    return scheme


def dial_of(url: str) -> Dial:
    """Prepare connections in RESP3, without redis-py's own retries: reconnecting is a Line's work."""
    check_url(url)
    try:
        pool = (
            ConnectionPool.from_url(
                url,
                protocol=3,
                retry=Retry(NoBackoff(), 0),
                socket_connect_timeout=5.0,
                socket_keepalive=True,
            )
            if not url.startswith("unix:")
            else ConnectionPool.from_url(url, protocol=3, retry=Retry(NoBackoff(), 0))
        )
    except ValueError as error:
        raise InvalidInputError("redis_url", f"{redacted(url)!r}: {error}") from None
    return pool.make_connection


def redacted(url: str) -> str:
    """A URL that may be logged."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return url.replace(f":{parts.password}@", ":***@")
