"""The protocol as pydantic models: what the gateway says, beside what clients may say in socket_ops.

``python -m tailrace.gateway.streams.socket_schema`` writes them as JSON Schema: socket_schema.json beside this file.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.json_schema import models_json_schema

from tailrace.bus.model.entry import GapReason
from tailrace.gateway.streams.socket_ops import (
    AuthOp,
    CancelOp,
    PauseOp,
    PingOp,
    RequestId,
    ResumeOp,
    SignalOp,
    SubscribeOp,
    UnsubscribeOp,
)

CursorText = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19})$")]


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Subscribed(_Said):
    """The acknowledgement; then come the events after ``cursor``. ``id`` is null where the URL subscribed."""

    op: Literal["subscribed"]
    id: RequestId | None
    execution: str
    cursor: CursorText
    head: CursorText
    status: str


class Unsubscribed(_Said):
    """The acknowledgement: nothing of this execution follows."""

    op: Literal["unsubscribed"]
    id: RequestId
    execution: str


class Accepted(_Said):
    """It was asked: the outcome is an event that carries this ``request``, or the execution's ending."""

    op: Literal["accepted"]
    id: RequestId
    execution: str
    request: CursorText
    status: str


class Pong(_Said):
    op: Literal["pong"]
    id: RequestId


class Authenticated(_Said):
    """The acknowledgement of ``auth``: the socket goes on with the new token, until ``expires``."""

    op: Literal["authenticated"]
    id: RequestId
    expires: str | None


class EventMessage(_Said):
    """An entry of the log. With ``encoding`` base64 or json, ``data`` is a string that holds bytes, or JSON text."""

    op: Literal["event"]
    execution: str
    id: CursorText
    type: str
    step: str | None = None
    ts: str
    data: Any
    meta: Any = None
    encoding: Literal["base64", "json"] | None = None


class CursorMoved(_Said):
    """Entries that the subscription's filter left out, up to this one: go on from here after a reconnect."""

    op: Literal["cursor"]
    execution: str
    id: CursorText


class CaughtUp(_Said):
    """What comes from now on is live."""

    op: Literal["caught_up"]
    execution: str
    cursor: CursorText


class GapMessage(_Said):
    """Events after ``requested`` are not in the log any more; told before anything that follows them."""

    op: Literal["gap"]
    execution: str
    requested: CursorText
    earliest: CursorText | None
    latest: CursorText | None
    reason: GapReason


class EndMessage(_Said):
    """The execution has ended and all of it was sent; the subscription is over."""

    op: Literal["end"]
    execution: str
    cursor: CursorText
    status: str


class Reconnect(_Said):
    """The gateway goes away. Make a new socket after so long, and resume; this one closes with 1012."""

    op: Literal["reconnect"]
    retry_ms: int


class ErrorMessage(_Said):
    """An op that could not be done (``id`` as in it), or the end of a subscription (``execution``, and no ``id``).

    With neither, it is the end of the socket, behind which that closes.
    """

    op: Literal["error"]
    id: RequestId | None = None
    execution: str | None = None
    code: str
    detail: str
    field: str | None = None


Said = (
    EventMessage
    | CursorMoved
    | Subscribed
    | Unsubscribed
    | Accepted
    | Pong
    | Authenticated
    | CaughtUp
    | GapMessage
    | EndMessage
    | Reconnect
    | ErrorMessage
)
SERVER_FRAME: Final[TypeAdapter[list[Said]]] = TypeAdapter(
    Annotated[list[Annotated[Said, Field(discriminator="op")]], Field(min_length=1)]
)
_CLIENT: Final = (SubscribeOp, UnsubscribeOp, PingOp, AuthOp, CancelOp, PauseOp, ResumeOp, SignalOp)
_SERVER: Final = (
    EventMessage,
    CursorMoved,
    Subscribed,
    Unsubscribed,
    Accepted,
    Pong,
    Authenticated,
    CaughtUp,
    GapMessage,
    EndMessage,
    Reconnect,
    ErrorMessage,
)


def document() -> dict[str, Any]:
    """Both sides' frames as one JSON Schema document, each under ``$defs``."""
    _, schema = models_json_schema([(model, "validation") for model in (*_CLIENT, *_SERVER)])
    definitions = schema["$defs"]
    definitions["ClientFrame"] = {"oneOf": [_ref(model) for model in _CLIENT]}
    definitions["ServerFrame"] = {
        "type": "array",
        "minItems": 1,
        "items": {"oneOf": [_ref(model) for model in _SERVER]},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tailrace.v1 over WebSocket",
        "$defs": definitions,
    }


def render() -> str:
    return json.dumps(document(), indent=2, sort_keys=True) + "\n"


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/$defs/{model.__name__}"}


if __name__ == "__main__":
    sys.stdout.write(render())
