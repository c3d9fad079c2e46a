"""Which web pages may open a socket here. Pure.

A WebSocket is not protected by CORS: any page of any stranger may open one to us, with the user's cookies, and read
what comes. The Origin header, which a page cannot forge, tells. Programs send none.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from tailrace.gateway.http.loopback import is_loopback


def is_allowed(origin: str, allowed_hosts: Collection[str]) -> bool:
    """Whether the page's host is of loopback, or one that this gateway answers for; ``null`` never is."""
    if "*" in allowed_hosts:
        return True
    try:
        parts = urlsplit(origin)
        host = parts.hostname
    except ValueError:
        return False
    if parts.scheme not in {"http", "https"} or host is None:
        return False
    return is_loopback(host) or host in {name.lower() for name in allowed_hosts}
