"""The ways in which a credential is refused. Pure."""

from __future__ import annotations

from typing import Final

from tailrace.gateway.auth.scopes import Scope
from tailrace.gateway.http.problems import Problem, ProblemError

# RFC 6750, section 3.
_CHALLENGE: Final = 'Bearer realm="tailrace"'


class UnauthenticatedError(ProblemError):
    """401: no credential, or one that is not good; ``detail`` never repeats it."""

    def __init__(self, code: str, detail: str) -> None:
        challenge = _CHALLENGE if code == "unauthenticated" else f'{_CHALLENGE}, error="invalid_token"'
        super().__init__(Problem(401, code, detail, headers={"WWW-Authenticate": challenge}))


class ForbiddenError(ProblemError):
    """403: a good credential that is not for this. Says nothing about any execution."""

    def __init__(self, code: str, detail: str, field: str | None = None) -> None:
        super().__init__(Problem(403, code, detail, field))


def invalid_token(detail: str) -> UnauthenticatedError:
    return UnauthenticatedError("invalid_token", detail)


def missing_scope(scope: Scope) -> ForbiddenError:
    return ForbiddenError("insufficient_scope", f"this takes the scope {scope!r}, which the token does not have")
