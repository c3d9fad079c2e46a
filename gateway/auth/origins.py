"""Whether a page may speak with a cookie. Pure.

A browser sends cookies along with whatever any page asks of us (cross-site request forgery). What a page cannot forge
are the headers ``Origin`` and ``Sec-Fetch-Site``; a token in a header or a ticket proves by itself that it was meant.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

_OWN_PORTS: Final = {"http": ":80", "https": ":443"}
_SAFE: Final = frozenset({"GET", "HEAD"})
# Of the page itself; or typed, or a bookmark. Browsers too old to say so send an Origin with all that matters.
_OWN_SITES: Final = frozenset({None, "same-origin", "none"})


def may_use_cookie(
    *, method: str | None, origin: str | None, host: str | None, fetch_site: str | None, allowed: Collection[str]
) -> bool:
    """``method`` is None for a WebSocket; ``allowed`` are origins beside our own."""
    if origin is not None:
        return is_same_origin(origin, host) or origin.lower() in allowed
    # Browsers send an Origin with everything that is not safe, and with every WebSocket.
    return method in _SAFE and fetch_site in _OWN_SITES


def is_same_origin(origin: str, host: str | None) -> bool:
    """The scheme is not compared: TLS may end before us."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and host is not None and parts.netloc.lower() == host.lower() != ""


def as_browsers_write(origin: str) -> str:
    """Leave out a port that is the scheme's own (the URL standard): no browser sends it."""
    scheme, _, rest = origin.partition("://")
    return origin.removesuffix(_OWN_PORTS.get(scheme, "")) if rest else origin


def is_origin(given: str) -> bool:
    """Whether it is an origin: scheme, host, and perhaps a port."""
    try:
        parts = urlsplit(given)
        host = parts.hostname
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(host) and given == f"{parts.scheme}://{parts.netloc}"
