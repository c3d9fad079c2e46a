"""What OpenAPI says of credentials: how to show them, and how each route refuses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from gateway.auth.access import Requires
from gateway.auth.settings import AuthSettings
from gateway.problem_docs import problems

_REFUSALS: Final = (401, 403, 429, 503)


def requirement_of(dependant: Dependant) -> Requires | None:
    """What a route asks for; None when it lets everybody in."""
    owner = getattr(dependant.call, "__self__", None)
    if isinstance(owner, Requires):
        return owner
    return next((found for each in dependant.dependencies if (found := requirement_of(each)) is not None), None)


def with_security(document: dict[str, Any], routes: Iterable[BaseRoute], settings: AuthSettings) -> dict[str, Any]:
    document.setdefault("components", {})["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "A JWT, or an API key"},
        "ticket": {"type": "apiKey", "in": "query", "name": "ticket", "description": "Of POST /v1/tickets"},
        "cookie": {"type": "apiKey", "in": "cookie", "name": settings.auth_cookie},
    }
    for route in routes:
        if not isinstance(route, APIRoute) or route.path_format not in document["paths"]:
            continue
        requirement = requirement_of(route.dependant)
        if requirement is None:
            continue
        for method in route.methods or ():
            operation = document["paths"][route.path_format].get(method.lower())
            if operation is not None:
                _describe(operation, requirement)
    return document


def _describe(operation: dict[str, Any], requirement: Requires) -> None:
    scopes = list(requirement.scopes)
    operation["security"] = [{"bearer": scopes}, {"ticket": scopes}, {"cookie": scopes}]
    for status, response in problems(*_REFUSALS).items():
        operation["responses"].setdefault(str(status), response)
