"""A reader of SSE that forgives nothing: whatever is not exactly what the gateway promises is an error. Pure.

A browser's parser (WHATWG HTML, 9.2.6) forgives almost all: it would hide a broken frame where a test must see it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import orjson

_ID: Final = re.compile(rb"(?:0|[1-9][0-9]{0,19})-(?:0|[1-9][0-9]{0,19})")
_NAME: Final = re.compile(rb"[a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*")
_RETRY: Final = re.compile(rb"retry: (0|[1-9][0-9]*)\n")
# The frames that begin with how soon to come back, and the control frames that carry an id.
_WITH_RETRY: Final = (b"event: stream.", b"id: ", b"data: ")
_WITH_ID: Final = frozenset({"stream.open", "stream.cursor"})
# Nothing below a space but the line feeds that frames consist of; JSON writes all the others as escapes.
_CONTROL: Final = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f]")
HEARTBEAT: Final = b": hb\n"


class MalformedFrameError(AssertionError):
    """What came is no frame of ours."""


@dataclass(frozen=True, slots=True)
class Frame:
    """An event (id, name and payload), or a control frame; of these, few have an id."""

    id: str | None
    name: str
    payload: Any = None

    @property
    def is_control(self) -> bool:
        return self.name.startswith("stream.")


class FrameReader:
    """Bytes in, frames out. ``heartbeats`` and ``retries`` count what is no frame."""

    def __init__(self, *, named: bool = True) -> None:
        self._named = named
        self._rest = b""
        self.heartbeats = 0
        self.retries: list[int] = []

    @property
    def unfinished(self) -> bytes:
        """The beginning of a frame whose end has not come."""
        return self._rest

    def feed(self, data: bytes) -> list[Frame]:
        """Raises MalformedFrameError."""
        *blocks, rest = (self._rest + data).split(b"\n\n")
        frames = [self._read(self._without_heartbeats(block)) for block in blocks]
        self._rest = self._without_heartbeats(rest)
        return frames

    def _without_heartbeats(self, block: bytes) -> bytes:
        while block.startswith(HEARTBEAT):
            self.heartbeats += 1
            block = block.removeprefix(HEARTBEAT)
        return block

    def _read(self, block: bytes) -> Frame:
        if _CONTROL.search(block):
            raise MalformedFrameError(f"control characters in {block[:200]!r}")
        fields: dict[bytes, bytes] = {}
        if (match := _RETRY.match(block)) and block[match.end() :].startswith(_WITH_RETRY):
            self.retries.append(int(match[1]))
            block = block[match.end() :]
        for line in block.split(b"\n"):
            field, colon, value = line.partition(b": ")
            if not colon or field not in {b"id", b"event", b"data"} or field in fields:
                raise MalformedFrameError(f"line {line[:200]!r} of {block[:200]!r}")
            fields[field] = value
        return self._checked(fields, block)

    def _checked(self, fields: dict[bytes, bytes], block: bytes) -> Frame:
        entry_id, name, data = (fields.get(key) for key in (b"id", b"event", b"data"))
        if entry_id is not None and not _ID.fullmatch(entry_id):
            raise MalformedFrameError(f"id of {block[:200]!r}")
        shown_id = None if entry_id is None else entry_id.decode()
        if data is None:
            raise MalformedFrameError(f"no data: {block[:200]!r}")
        payload = orjson.loads(data)
        if not isinstance(payload, dict):
            raise MalformedFrameError(f"data is no object: {block[:200]!r}")
        if self._named:
            if name is None or not _NAME.fullmatch(name):
                raise MalformedFrameError(f"name of {block[:200]!r}")
            shown_name = name.decode()
        elif name is not None:
            raise MalformedFrameError(f"a name where none was asked for: {block[:200]!r}")
        else:
            shown_name = payload["type"]
        frame = Frame(shown_id, shown_name, payload)
        if frame.is_control and shown_id is not None and shown_name not in _WITH_ID:
            raise MalformedFrameError(f"a control frame with an id: {block[:200]!r}")
        if shown_id is None and (not frame.is_control or shown_name == "stream.cursor"):
            raise MalformedFrameError(f"an event without an id: {block[:200]!r}")
        if not frame.is_control and (
            payload["type"] != shown_name or not {"execution_id", "ts", "data"} <= set(payload)
        ):
            raise MalformedFrameError(f"envelope of {block[:200]!r}")
        return frame
