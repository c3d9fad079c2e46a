"""The users of plans: a plan that was begun with a token belongs to its user, one without a token to everybody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, HTTPException, Query, WebSocketException
from starlette.requests import HTTPConnection

from tailrace import State

USERS = {"token-of-ann": "ann", "token-of-bob": "bob"}


def current_user(connection: HTTPConnection, token: Annotated[str, Query()] = "") -> str | None:
    """Pages cannot send headers with a WebSocket: there the token is in the query."""
    given = connection.headers.get("authorization", "").removeprefix("Bearer ") or token
    if given and given not in USERS:
        detail = "this token is not known"
        raise (
            WebSocketException(1008, detail) if connection.scope["type"] == "websocket" else HTTPException(401, detail)
        )
    return USERS.get(given)


User = Annotated[str | None, Depends(current_user)]


def seen_by(user: str | None) -> Callable[[State], bool]:
    def sees(state: State) -> bool:
        return state.labels.get("user") in {None, user}

    return sees
