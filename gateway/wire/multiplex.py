"""Frames of several executions on one SSE response. Pure.

An ``id:`` names every cursor of the viewer, so it is known only when a frame is written: until then a frame is a piece
with its execution's index and cursor in front, and without an id. Who shares a response may wait for each other, and
what was rendered first need not be written first.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

from tailrace.bus.model.cursor import START, Cursor
from tailrace.bus.model.entry import Entry
from tailrace.gateway.wire.cursors import Cursors
from tailrace.gateway.wire.formats import Message, SseFormat

# Length of the frame, index of the execution, cursor.
_HEAD: Final = struct.Struct(">IiQQ")
# In place of an index: says something about the stream, and moves no cursor.
_NO_ENTRY: Final = -1

HEARTBEAT: Final = b": hb\n\n"


class MultiplexFormat:
    """One object for each viewer: its executions have their places in it."""

    def __init__(self, executions: Sequence[str], plain: SseFormat) -> None:
        self.name = f"{plain.name}-multiplex"
        self.heartbeat = remark(HEARTBEAT)
        self._plain = plain
        self._indexes = {execution_id: index for index, execution_id in enumerate(executions)}

    def entry(self, execution_id: str, entry: Entry) -> bytes:
        # The id line comes first and is the only thing that is not the same here.
        frame = self._plain.entry(execution_id, entry).split(b"\n", 1)[1]
        return _piece(self._indexes[execution_id], entry.cursor, frame)

    def skipped(self, execution_id: str, cursor: Cursor) -> bytes:
        return _piece(self._indexes[execution_id], cursor, b"\n")

    def control(self, name: str, payload: dict[str, Any]) -> bytes:
        return remark(self._plain.control(name, payload))

    def message(self, frames: bytes) -> Message:
        return {"type": "http.response.body", "body": frames, "more_body": True}


def with_ids(pieces: bytes, cursors: Cursors) -> bytes:
    """Make frames of pieces that are written now, and move the viewer's cursors."""
    frames: list[bytes] = []
    at = 0
    while at < len(pieces):
        size, index, ms, n = _HEAD.unpack_from(pieces, at)
        at += _HEAD.size
        if index != _NO_ENTRY:
            cursors.move(index, Cursor(ms, n))
            frames.append(b"id: %b\n" % cursors.id())
        frames.append(pieces[at : at + size])
        at += size
    return b"".join(frames)


def remark(frame: bytes) -> bytes:
    """Something about the stream itself: it moves no cursor and has no id."""
    return _piece(_NO_ENTRY, START, frame)


def _piece(index: int, cursor: Cursor, frame: bytes) -> bytes:
    return _HEAD.pack(len(frame), index, *cursor) + frame
