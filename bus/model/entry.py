"""An event in the log, with its id. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import orjson

from tailrace.bus.model.cursor import Cursor, parse
from tailrace.bus.model.event import TERMINAL_TYPES

GapReason = Literal["trimmed", "expired", "flushed", "rewound", "hole"]


class Entry(NamedTuple):
    """One entry, checked: whatever wrote it, ``raw_data`` and ``raw_meta`` are one line of valid JSON.

    An entry that could not be shown as it stands has type ``dropped`` and says why in its data, so that
    every id of the log reaches every reader. A tuple, because a gateway makes fifty thousand a second.
    """

    cursor: Cursor
    type: str
    step: str | None
    ts: str
    raw_data: bytes
    raw_meta: bytes | None = None
    encoding: str | None = None

    @property
    def id(self) -> str:
        """The cursor as text, as every wire tells it."""
        return str(self.cursor)

    @property
    def data(self) -> Any:
        """What was emitted; read anew each time."""
        return orjson.loads(self.raw_data)

    @property
    def meta(self) -> Any:
        """What was said beside the data; None for nothing."""
        return None if self.raw_meta is None else orjson.loads(self.raw_meta)

    @property
    def is_terminal(self) -> bool:
        """Whether nothing follows it."""
        return self.type in TERMINAL_TYPES

    def members(self, execution_id: str) -> bytes:
        """The event as JSON members, without the id and the braces, so that each wire can put it into its own form."""
        frame = b'%b"ts":"%b","data":%b' % (
            lead(self.type, execution_id, self.step),
            self.ts.encode(),
            self.raw_data,
        )
        if self.raw_meta is not None:
            frame += b',"meta":' + self.raw_meta
        if self.encoding is not None:
            frame += b',"encoding":"base64"'
        return frame

    def json(self, execution_id: str) -> bytes:
        """The event as one JSON object, its id first."""
        return b'{"id":"%d-%d",%b}' % (*self.cursor, self.members(execution_id))

    def shown(self, execution_id: str) -> dict[str, Any]:
        """The same as an object."""
        shown: dict[str, Any] = orjson.loads(self.json(execution_id))
        return shown

    @classmethod
    def from_shown(cls, shown: Mapping[str, Any]) -> Entry:
        """Read what ``shown`` gives, from JSON; members that are null count as absent. Raises InvalidInputError."""
        meta = shown.get("meta")
        return cls(
            parse(shown["id"], field="id"),
            shown["type"],
            shown.get("step"),
            shown["ts"],
            json.dumps(shown["data"]).encode(),
            None if meta is None else json.dumps(meta).encode(),
            shown.get("encoding"),
        )


@lru_cache(maxsize=16384)
def lead(event_type: str, execution_id: str, step: str | None) -> bytes:
    """The JSON members that an execution's events of one kind have in common, and a comma."""
    members = {"type": event_type, "execution_id": execution_id}
    if step is not None:
        members["step"] = step
    return orjson.dumps(members)[1:-1] + b","


@dataclass(frozen=True, slots=True)
class Gap:
    """Loss, told: what lay between ``requested`` and the next entry is not in the log any more.

    ``earliest`` and ``latest`` bound what the log still holds; both are None when it holds nothing.
    Reasons: ``trimmed`` by retention, ``expired`` with its time to live, ``flushed`` with all of Redis,
    ``rewound`` by a failover to a replica that lacked entries (or a cursor of another log), ``hole``
    where entries were deleted from the middle.
    """

    requested: Cursor
    earliest: Cursor | None
    latest: Cursor | None
    reason: GapReason

    def members(self) -> dict[str, Any]:
        """As every wire tells it."""
        return {
            "requested": str(self.requested),
            "earliest": None if self.earliest is None else str(self.earliest),
            "latest": None if self.latest is None else str(self.latest),
            "reason": self.reason,
        }
