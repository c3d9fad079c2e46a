"""The event that every contender carries: the same words, and about the same bytes to a viewer. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from bench.load.mark import mark

TYPE: Final = "bench.word"

_TEXT: Final = b"the water that has done its work runs off through the tailrace"


def data(number: int, run: int, offered_ns: int) -> bytes:
    """The event's data: 117 bytes of JSON, the size of a small progress event or a merged token."""
    return b'{"text":"%b","mark":"%b"}' % (_TEXT, mark(number, run, offered_ns))


def envelope(execution_id: bytes, event_data: bytes, ts: bytes) -> bytes:
    """The event as viewers get it (DESIGN section 7): what a contender without a log of fields publishes."""
    return b'{"type":"%b","execution_id":"%b","ts":"%b","data":%b}' % (TYPE.encode(), execution_id, ts, event_data)


def frame(event_id: bytes, body: bytes) -> bytes:
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id, TYPE.encode(), body)


def timestamp(unix_seconds: float) -> bytes:
    return datetime.fromtimestamp(unix_seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z").encode()
