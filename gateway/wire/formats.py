"""Entries and control frames as bytes, one format each. Pure.

A frame is rendered once and the same bytes go to every viewer of that format. Entries come checked: their data is one
line of valid JSON, their type and time cannot break a frame.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from functools import lru_cache
from typing import Any, Final, Protocol

import orjson

from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.entry import Entry, lead
from tailrace.bus.model.event import as_line
from tailrace.bus.model.lifecycle import Status
from tailrace.bus.model.merging import merged
from tailrace.bus.model.reading import Bare

Message = MutableMapping[str, Any]
# Where a message for a WebSocket keeps others that are sent in its place, one after the other.
SEVERAL: Final = "tailrace.several"
# Whether a message for a WebSocket is to be compressed, where the connection can.
COMPRESSED: Final = "tailrace.compressed"


# Renders bare entries, in order; the same frames as ``entry`` makes of them.
RenderBare = Callable[[str, Sequence[Bare]], bytes]


class Format(Protocol):
    """How one kind of viewer wants its bytes; ``message`` wraps them for the ASGI server.

    No bytes, as heartbeat or control, mean that there is nothing to say.
    """

    name: str
    heartbeat: bytes
    # Whether it is for WebSockets, which servers close by themselves when they stop.
    is_socket: bool = False

    def entry(self, execution_id: str, entry: Entry) -> bytes: ...

    def run(self, execution_id: str, run: Sequence[Entry]) -> bytes:
        """Entries of ``runs_of_tokens``: one, or several tokens that are to be one."""
        return self.entry(execution_id, merged(run))

    def skipped(self, execution_id: str, cursor: Cursor) -> bytes:
        """Move the viewer's cursor past entries that it is not shown."""

    def control(self, name: str, payload: dict[str, Any]) -> bytes:
        """Say something about the stream itself; carries no id."""

    def end(self, execution_id: str, cursor: Cursor, status: Status, *, told: bool) -> bytes:
        """Say how the execution ended; ``told`` when its last event has been given, which says the same."""
        del told
        return self.control("stream.end", {"execution_id": execution_id, "cursor": str(cursor), "status": status})

    def message(self, frames: bytes) -> Message: ...


class StreamFormat(Format, Protocol):
    """A format that can be all of a response."""

    def opening(self, execution_id: str, retry_ms: int, cursor: Cursor | None) -> bytes:
        """What stands before ``stream.open``; with the cursor, for a viewer that has none to come back with."""


@lru_cache(maxsize=16384)
def _sse_lead(event_type: str, execution_id: str, step: str | None, named: bool) -> bytes:  # noqa: FBT001 - a key
    name = b"event: %b\n" % event_type.encode() if named else b""
    return b"%bdata: {%b" % (name, lead(event_type, execution_id, step))


@lru_cache(maxsize=4096)
def _named_start(event_type: bytes) -> bytes:
    """What comes between the id and the execution's; types and ids need no escapes in JSON."""
    return b'event: %b\ndata: {"type":"%b","execution_id":"' % (event_type, event_type)


@lru_cache(maxsize=4096)
def _unnamed_start(event_type: bytes) -> bytes:
    return b'data: {"type":"%b","execution_id":"' % event_type


_NO_STEP: Final = b'","ts":"'


@lru_cache(maxsize=4096)
def _step_member(step: bytes) -> bytes:
    """What comes between the execution's id and the time."""
    return b'","step":%b,"ts":"' % orjson.dumps(step.decode())


class SseFormat(StreamFormat):
    """Server-Sent Events, LF only (WHATWG HTML, section 9.2). Named events, or all of them unnamed.

    Every block has data: many clients give their user an empty event for one that has not, and that is no JSON.
    """

    # Without the empty line that ends a block.
    heartbeat = b": hb\n"

    def __init__(self, *, named: bool) -> None:
        self.name = "sse" if named else "sse-message"
        self._named = named
        self._start = _named_start if named else _unnamed_start

    def bare(self, execution_id: str, entries: Sequence[Bare]) -> bytes:
        run, start = execution_id.encode(), self._start
        frames = []
        for entry_id, kind, step, ts, data in entries:
            member = _NO_STEP if step is None else _step_member(step)
            frames.append(b'id: %b\n%b%b%b%b","data":%b}\n\n' % (entry_id, start(kind), run, member, ts, data))
        return b"".join(frames)

    def entry(self, execution_id: str, entry: Entry) -> bytes:
        (ms, n), event_type, step, ts, data, meta, encoding = entry
        if meta is None and encoding is None:
            # The same as below in one go: nearly every entry is such a one.
            lead = _sse_lead(event_type, execution_id, step, self._named)
            return b'id: %d-%d\n%b"ts":"%b","data":%b}\n\n' % (ms, n, lead, ts.encode(), data)
        name = b"event: %b\n" % event_type.encode() if self._named else b""
        return b"id: %d-%d\n%bdata: {%b}\n\n" % (ms, n, name, entry.members(execution_id))

    def skipped(self, execution_id: str, cursor: Cursor) -> bytes:
        return b"id: %d-%d\n" % cursor + self.control(
            "stream.cursor", {"execution_id": execution_id, "id": str(cursor)}
        )

    def opening(self, execution_id: str, retry_ms: int, cursor: Cursor | None) -> bytes:
        del execution_id
        return sse_opening(retry_ms, None if cursor is None else b"%d-%d" % cursor)

    def control(self, name: str, payload: dict[str, Any]) -> bytes:
        # An EventSource obeys the field, not our data: without it, all who are sent away would return at once.
        retry = b"retry: %d\n" % payload["retry_ms"] if "retry_ms" in payload else b""
        if self._named:
            return b"%bevent: %b\ndata: %b\n\n" % (retry, name.encode(), as_line(orjson.dumps(payload)))
        return b"%bdata: %b\n\n" % (retry, as_line(orjson.dumps({"type": name, **payload})))

    def message(self, frames: bytes) -> Message:
        return {"type": "http.response.body", "body": frames, "more_body": True}


def sse_opening(retry_ms: int, cursor: bytes | None) -> bytes:
    """The fields that the first block begins with."""
    return b"retry: %d\n" % retry_ms + (b"" if cursor is None else b"id: %b\n" % cursor)


class NdjsonFormat(StreamFormat):
    """One JSON object a line; control frames are objects whose type begins with ``stream.``."""

    name = "ndjson"
    # An empty line is ignored by NDJSON readers (ndjson-spec, section 3.1, allows it).
    heartbeat = b"\n"

    def entry(self, execution_id: str, entry: Entry) -> bytes:
        return entry.json(execution_id) + b"\n"

    def skipped(self, execution_id: str, cursor: Cursor) -> bytes:
        return self.control("stream.cursor", {"execution_id": execution_id, "id": str(cursor)})

    def opening(self, execution_id: str, retry_ms: int, cursor: Cursor | None) -> bytes:
        del retry_ms
        return b"" if cursor is None else self.skipped(execution_id, cursor)

    def control(self, name: str, payload: dict[str, Any]) -> bytes:
        return as_line(orjson.dumps({"type": name, **payload}, option=orjson.OPT_APPEND_NEWLINE))

    def message(self, frames: bytes) -> Message:
        return {"type": "http.response.body", "body": frames, "more_body": True}


SSE: Final = SseFormat(named=True)
SSE_UNNAMED: Final = SseFormat(named=False)
NDJSON: Final = NdjsonFormat()
