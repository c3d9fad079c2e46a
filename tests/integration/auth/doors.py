"""Every route of the application, and what it asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import BaseRoute, Route, WebSocketRoute

from tailrace.gateway.access.access import Requires, everybody
from tailrace.gateway.routes.ws import SocketEndpoint


@dataclass(frozen=True)
class Door:
    """``requirement`` is None where everybody is let in, on purpose."""

    method: str
    path: str
    requirement: Requires | None

    @property
    def names_a_run(self) -> bool:
        return "{execution_id}" in self.path

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class UnguardedError(AssertionError):
    pass


def doors_of(routes: Sequence[BaseRoute]) -> Iterator[Door]:
    """Raises UnguardedError for a route that has neither a requirement nor the mark that it is meant for all."""
    for found in iter_route_contexts(routes):
        path = found.path or ""
        match found.original_route:
            case APIRoute(dependant=dependant, methods=methods):
                requirement = requirement_of(dependant)
                if requirement is None and not _is_open(dependant):
                    raise UnguardedError(f"{path} asks nobody who he is")
                for method in sorted(methods or ()):
                    yield Door(method, path, requirement)
            case WebSocketRoute(app=SocketEndpoint() as endpoint):
                yield Door("WS", path, endpoint.requirement)
            case Route(path="/openapi.json"):
                yield Door("GET", path, None)
            case route:
                raise UnguardedError(f"{route!r} asks nobody who he is")


def requirement_of(dependant: Dependant) -> Requires | None:
    """What a route asks for; None when it lets everybody in."""
    if isinstance(dependant.call, Requires):
        return dependant.call
    return next((found for each in dependant.dependencies if (found := requirement_of(each)) is not None), None)


def _is_open(dependant: Dependant) -> bool:
    return dependant.call is everybody or any(map(_is_open, dependant.dependencies))
