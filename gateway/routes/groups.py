"""The routes of a gateway, in groups that an application may choose from."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from fastapi import APIRouter, Depends
from starlette.requests import HTTPConnection

from tailrace.bus import InvalidInputError
from tailrace.gateway.routes import (
    activity,
    clients,
    control,
    events,
    executions,
    health,
    index,
    listing,
    metrics,
    publish,
    requests,
    revocations,
    stats,
    stream,
    submit_stream,
    tickets,
    web,
    ws,
)

_GROUPS: Final[dict[str, tuple[APIRouter, ...]]] = {
    "index": (index.router,),
    "health": (health.router,),
    "metrics": (metrics.router,),
    "executions": (executions.router, listing.router, requests.router),
    "control": (control.router,),
    "events": (events.router,),
    "publish": (publish.router,),
    "submit_stream": (submit_stream.router,),
    "stream": (stream.router,),
    "activity": (activity.router, stats.router),
    "clients": (clients.router,),
    "sockets": (),
    "security": (tickets.router, revocations.router),
    "web": (web.router,),
}
GROUPS: Final = tuple(_GROUPS)
# An application has its own page at the root.
DEFAULT_GROUPS: Final = tuple(name for name in GROUPS if name != "index")
_UNVERSIONED: Final = frozenset({"index", "health", "metrics", "web"})


def router_of(enter: ws.Enter, chosen: Collection[str]) -> APIRouter:
    """One router with the routes of these groups. Raises InvalidInputError for an unknown group."""
    for name in chosen:
        if name not in _GROUPS:
            raise InvalidInputError("routes", f"{name!r} is not one of {', '.join(GROUPS)}")

    async def note_gateway(connection: HTTPConnection) -> None:
        enter(connection.scope)

    router = APIRouter(dependencies=[Depends(note_gateway)])
    for name, members in _GROUPS.items():
        if name in chosen:
            prefix = "" if name in _UNVERSIONED else "/v1"
            for member in members:
                router.include_router(member, prefix=prefix)
            if name == "sockets":
                sockets = APIRouter()
                sockets.routes.extend(ws.routes_of(enter))
                router.include_router(sockets, prefix=prefix)
    return router
