"""What a request shows to say who asks. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from starlette.requests import HTTPConnection

from tailrace.gateway.auth.origins import may_use_cookie
from tailrace.gateway.auth.refusals import ForbiddenError, UnauthenticatedError, invalid_token

_HOW = "send 'Authorization: Bearer …', or a ticket of POST /v1/tickets as ?ticket="


@dataclass(frozen=True, slots=True)
class Shown:
    """``text`` is a secret; repr, and so any log, leaves it out."""

    kind: Literal["bearer", "ticket"]
    text: str

    def __repr__(self) -> str:
        return f"Shown({self.kind!r})"


def shown_by(connection: HTTPConnection, *, cookie: str, allowed_origins: Collection[str]) -> Shown:
    """A header goes before a ticket, and a ticket before the cookie. Raises UnauthenticatedError, ForbiddenError."""
    headers = connection.headers.getlist("authorization")
    if headers:
        scheme, _, text = headers[0].partition(" ")
        if len(headers) > 1 or scheme.lower() != "bearer" or not text.strip():
            raise invalid_token("one header 'Authorization: Bearer …' is expected")
        return Shown("bearer", text.strip())
    tickets = connection.query_params.getlist("ticket")
    if tickets:
        return Shown("ticket", tickets[0])
    of_cookie = connection.cookies.get(cookie)
    if not of_cookie:
        raise UnauthenticatedError("unauthenticated", f"this gateway requires authentication; {_HOW}")
    check_page(connection, allowed_origins)
    return Shown("bearer", of_cookie)


def check_page(connection: HTTPConnection, allowed_origins: Collection[str]) -> None:
    """Refuse what a stranger's page may have a browser send with a cookie. Raises ForbiddenError."""
    if not may_use_cookie(
        method=connection.scope.get("method"),
        origin=connection.headers.get("origin"),
        host=connection.headers.get("host"),
        fetch_site=connection.headers.get("sec-fetch-site"),
        allowed=allowed_origins,
    ):
        detail = "cookies are accepted only from this gateway's own pages and those of TAILRACE_ALLOWED_ORIGINS"
        raise ForbiddenError("origin_not_allowed", detail, "Origin")
