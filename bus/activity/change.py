"""One line of the activity: what became of which execution. Pure.

In the stream it stands as the data of an entry whose type is ``activity``: there an ending ends an execution, and no
stream. Any program may write there, so reading trusts nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import orjson

from tailrace.bus.errors import InvalidInputError
from tailrace.bus.model.codec import ts_of
from tailrace.bus.model.cursor import START, Cursor, parse
from tailrace.bus.model.entry import Entry
from tailrace.bus.model.event import check_execution_id, check_type
from tailrace.bus.model.labels import Labels, check_labels

ENTRY_TYPE: Final = "activity"
# The whole of it stands in the execution's own log; here it is for lists.
MAX_DATA_BYTES: Final = 2048
MAX_MEMBER_BYTES: Final = 512
MAX_NAME_CHARS: Final = 128
# A line of ours with room to spare; what is longer, a stranger wrote.
MAX_CHANGE_BYTES: Final = 16 * 1024
_TS: Final = re.compile(r"[0-9TZ:.+-]{10,40}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Change:
    """``cursor`` is its place in the activity, ``at`` that of the event in the execution's own log.

    It may come twice, after a crash or an outage: (``execution_id``, ``at``) is the same then. ``at`` is None for what
    a program noted that stands in no log.
    """

    cursor: Cursor
    execution_id: str
    at: Cursor | None
    type: str
    ts: str
    tenant: str | None
    pipeline: str | None
    data: Any
    labels: Labels = field(default_factory=dict)

    @classmethod
    def of(cls, entry: Entry) -> Change | None:
        """Check an entry of the stream; None for what is no change."""
        if entry.type != ENTRY_TYPE:
            return None
        return read_change(entry.cursor, entry.raw_data)


def read_change(cursor: Cursor, raw: bytes) -> Change | None:
    try:
        given = orjson.loads(raw)
        at, ts = given["cursor"], given["ts"]
        place = None if at is None else parse(at)
        if place == START:
            return None
        return Change(
            cursor,
            check_execution_id(given["execution_id"]),
            place,
            check_type(given["type"]),
            ts if _TS.fullmatch(ts) else ts_of(cursor.ms),
            _name(given["tenant"]),
            _name(given["pipeline"]),
            given["data"],
            _labels(given.get("labels")),
        )
    except (ValueError, TypeError, KeyError):
        return None


def line_of(
    execution_id: str,
    at: Cursor | None,
    *,
    event_type: str,
    ts: str,
    tenant: str | None,
    pipeline: str | None,
    raw_data: bytes,
    labels: Labels = MappingProxyType({}),
) -> bytes:
    """Lay a change out as one line of JSON; ``raw_data`` is one already."""
    members: dict[str, Any] = {
        "type": event_type,
        "execution_id": execution_id,
        "cursor": None if at is None else str(at),
        "ts": ts,
        "tenant": tenant,
        "pipeline": pipeline,
    }
    if labels:
        members["labels"] = dict(labels)
    return orjson.dumps(members)[:-1] + b',"data":' + shortened(raw_data) + b"}"


def shortened(raw_data: bytes) -> bytes:
    """Leave out what is large, and say so: ``left_out`` names the members that stand in the log only."""
    if len(raw_data) <= MAX_DATA_BYTES:
        return raw_data
    data = orjson.loads(raw_data)
    kept: dict[str, Any] = {}
    left_out: list[str] = []
    size = 0
    if isinstance(data, dict):
        for name, value in data.items():
            member_bytes = len(orjson.dumps(value)) + len(name.encode())
            if member_bytes <= MAX_MEMBER_BYTES and size + member_bytes <= MAX_DATA_BYTES // 2:
                kept[name] = value
                size += member_bytes
            elif len(left_out) < 8 and len(name) <= MAX_NAME_CHARS:  # noqa: PLR2004 - a few names; the rest is where they are
                left_out.append(name)
    return orjson.dumps({**kept, "left_out": left_out})


def _labels(given: Any) -> Labels:
    return {} if given is None else check_labels(given)


def _name(name: object) -> str | None:
    if name is None or (isinstance(name, str) and len(name) <= MAX_NAME_CHARS):
        return name
    raise InvalidInputError("name", "is neither a name nor null")
