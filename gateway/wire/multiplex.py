"""Frames of several executions on one SSE response. Pure.

An ``id:`` names every cursor of the viewer, so it is known only when a frame is written: until then a frame is a piece
with its execution's cursor in front, and without an id. So the pieces of an execution are the same for all viewers. Who
shares a response may wait for each other, and what was rendered first need not be written first.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from tailrace.bus.model.cursor import START, Cursor
from tailrace.bus.model.entry import Entry
from tailrace.gateway.wire.cursors import Cursors
from tailrace.gateway.wire.formats import SSE, SSE_UNNAMED, Format, Message, SseFormat

# Length of the frame, whether it has a cursor, cursor.
_HEAD: Final = struct.Struct(">IBQQ")


class MultiplexFormat(Format):
    def __init__(self, plain: SseFormat) -> None:
        self.name = f"{plain.name}-multiplex"
        self.heartbeat = remark(plain.heartbeat)
        self.plain = plain

    def entry(self, execution_id: str, entry: Entry) -> bytes:
        return _without_id(entry.cursor, self.plain.entry(execution_id, entry))

    def skipped(self, execution_id: str, cursor: Cursor) -> bytes:
        return _without_id(cursor, self.plain.skipped(execution_id, cursor))

    def control(self, name: str, payload: dict[str, Any]) -> bytes:
        return remark(self.plain.control(name, payload))

    def message(self, frames: bytes) -> Message:
        return {"type": "http.response.body", "body": frames, "more_body": True}


def with_ids(pieces: bytes, index: int, cursors: Cursors) -> bytes:
    """Make frames of pieces of one execution that are written now, and move its cursor, which has this index."""
    frames: list[bytes] = []
    at = 0
    while at < len(pieces):
        size, moves, ms, n = _HEAD.unpack_from(pieces, at)
        at += _HEAD.size
        if moves:
            cursors.move(index, Cursor(ms, n))
            frames.append(b"id: %b\n" % cursors.id())
        frames.append(pieces[at : at + size])
        at += size
    return b"".join(frames)


def remark(frame: bytes) -> bytes:
    """Something about the stream itself: it moves no cursor and has no id."""
    return _HEAD.pack(len(frame), 0, *START) + frame


def _without_id(cursor: Cursor, frame: bytes) -> bytes:
    # The id line comes first and is the only thing that is not the same here.
    rest = frame.split(b"\n", 1)[1]
    return _HEAD.pack(len(rest), 1, *cursor) + rest


MULTIPLEX_SSE: Final = MultiplexFormat(SSE)
MULTIPLEX_SSE_UNNAMED: Final = MultiplexFormat(SSE_UNNAMED)
