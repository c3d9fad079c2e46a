"""Which web pages may open a socket here, or ask without a body.

A WebSocket is not protected by CORS: any page of any stranger may open one to us, with the user's cookies, and read
what comes. The Origin header, which a page cannot forge, tells. Programs send none.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.requests import Request

from tailrace.gateway.auth.refusals import ForbiddenError
from tailrace.gateway.context import GatewayContext
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


def check_page(request: Request, gateway: GatewayContext) -> None:
    """A request without a body is one that any page of any stranger may send, without asking (CORS).

    Raises ForbiddenError.
    """
    origin = request.headers.get("origin")
    if gateway.auth.required or origin is None or is_allowed(origin, gateway.settings.allowed_hosts):
        # A credential is not sent along by a stranger's page; see gateway.auth.origins.
        return
    detail = f"pages of {origin[:80]!r} may not send requests here; add its host to TAILRACE_ALLOWED_HOSTS"
    raise ForbiddenError("origin_not_allowed", detail, "Origin")
