"""A connection as it is written down for the other gateways. Pure; whatever is read is checked."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from tailrace.bus.model.codec import ts_of
from tailrace.gateway.presence.live_connections import LiveConnection

MAX_SHOWN_EXECUTIONS = 64


class Record(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    kind: str
    executions: list[str]
    watching: int
    subject: str
    tenant: str | None = None
    address: str | None = None
    since: str


def record_of(standing: LiveConnection) -> bytes:
    executions = standing.watching.executions
    members: dict[str, Any] = {
        "kind": standing.kind,
        "executions": list(executions[:MAX_SHOWN_EXECUTIONS]),
        "watching": len(executions),
        "subject": standing.principal.subject,
        "tenant": standing.principal.tenant,
        "address": standing.address,
        "since": ts_of(standing.since_ms),
    }
    # A copy: what orjson gives holds kilobytes of memory, however short it is.
    return bytes(bytearray(orjson.dumps(members)))


def parse_record(raw: bytes) -> Record | None:
    """None for what no gateway wrote."""
    try:
        return Record.model_validate_json(raw)
    except ValidationError:
        return None
