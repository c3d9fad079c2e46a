"""What comes over the wire, read. Pure; trusts a gateway no more than a gateway trusts its log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from tailrace.cli.errors import GatewayRequestError


@dataclass(frozen=True, slots=True)
class Received:
    """One event of the log, as a gateway showed it.

    ``latency_seconds`` is from the producer's time to here, for what came live; None for what was replayed, which is as
    old as it is. ``duplicate`` says that its id is not above the last one's.
    """

    id: str
    type: str
    step: str | None
    ts: str
    data: Any
    envelope: dict[str, Any]
    latency_seconds: float | None = None
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class ControlFrame:
    """A control frame: about the stream, not of the log."""

    type: str
    payload: dict[str, Any]


def read_frame(name: str, entry_id: str, data: str) -> Received | ControlFrame:
    """Read one dispatched SSE event. Raises GatewayRequestError for what no gateway of ours sends."""
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise GatewayRequestError(f"the gateway sent a frame {name!r} that is not JSON ({error})") from None
    if not isinstance(body, dict):
        raise GatewayRequestError(f"the gateway sent a frame {name!r} that is not a JSON object")
    event_type = body.get("type", name)
    if not isinstance(event_type, str):
        raise GatewayRequestError(f"the gateway sent a frame {name!r} whose type is not a string")
    if event_type.startswith("stream."):
        return ControlFrame(event_type, body)
    if position(entry_id) is None:
        raise GatewayRequestError(f"the gateway sent an event {event_type!r} with the id {entry_id!r}, not <ms>-<n>")
    step = body.get("step")
    return Received(
        id=entry_id,
        type=event_type,
        step=step if isinstance(step, str) else None,
        ts=str(body.get("ts", "")),
        data=body.get("data"),
        envelope=body,
    )


def position(entry_id: str) -> tuple[int, int] | None:
    """An id as what it sorts by."""
    ms, _, n = entry_id.partition("-")
    is_id = entry_id.isascii() and ms.isdecimal() and n.isdecimal() and len(entry_id) < 64
    return (int(ms), int(n)) if is_id else None


def age_seconds(ts: str, now_unix_seconds: float) -> float | None:
    """How long ago an RFC 3339 time was; None for what is none."""
    try:
        stated = datetime.fromisoformat(ts)
    except ValueError:
        return None
    return None if stated.tzinfo is None else now_unix_seconds - stated.timestamp()
