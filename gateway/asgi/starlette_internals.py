"""All that reaches into Starlette: which of its layers pass on a response's body as it is.

Each keeps the ``send`` below it where nothing public tells it. A layer that is not known here is never passed by.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, cast

from starlette.requests import Request
from starlette.types import Send
from starlette.websockets import WebSocket

# Functions that look at the start of a response only, and find the next ``send`` in a variable of that name.
_TRANSPARENT: Final = frozenset(
    {
        ("starlette.middleware.errors", "ServerErrorMiddleware.__call__.<locals>._send"),
        ("starlette._exception_handler", "wrap_app_handling_exceptions.<locals>.wrapped_app.<locals>.sender"),
    }
)
_BASE_RECEIVE: Final = (
    "starlette.middleware.base",
    "BaseHTTPMiddleware.__call__.<locals>.call_next.<locals>.receive_or_disconnect",
)
_MAX_LAYERS: Final = 32
_CORS: Final = ("starlette.middleware.cors", "CORSMiddleware.send")


def inside(send: Any) -> Send | None:
    """The ``send`` that a layer passes a body to as it is; None for a layer that may do something with it."""
    if isinstance(send, partial):
        return cast("Send | None", send.keywords.get("send")) if _name_of(send.func) == _CORS else None
    if _name_of(send) not in _TRANSPARENT:
        return None
    kept = dict(zip(send.__code__.co_freevars, send.__closure__ or (), strict=True))
    return cast("Send", kept["send"].cell_contents) if "send" in kept else None


def server_of(receive: Any) -> Any:
    """The server's connection below layers that pass on ``receive``, or read it through ``BaseHTTPMiddleware``.

    Whatever has the method that is asked last; None where a layer is not known. Nothing is read by way of it.
    """
    for _ in range(_MAX_LAYERS):
        owner = getattr(receive, "__self__", None)
        if isinstance(owner, Request):
            receive = owner.receive
        elif owner is not None:
            return owner
        elif _name_of(receive) == _BASE_RECEIVE:
            kept = dict(zip(receive.__code__.co_freevars, receive.__closure__ or (), strict=True))
            receive = kept["wrapped_receive"].cell_contents if "wrapped_receive" in kept else None
        else:
            return None
    return None


def send_of(socket: WebSocket) -> Send:
    """What the socket itself writes to; its own ``send``, which looks at each message, where that is not seen."""
    return cast("Send", getattr(socket, "_send", socket.send))


def _name_of(function: Any) -> tuple[str, str]:
    return getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
