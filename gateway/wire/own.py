"""A wire of one's own as the hub's format: bytes of what it shows, and words of ours where it fails."""

from __future__ import annotations

import logging
import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, cast
from weakref import WeakValueDictionary

from tailrace.bus.errors import InvalidCursorError, InvalidInputError
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.cursor import START, START_SPELLINGS, Cursor, from_id, parse
from tailrace.bus.model.entry import Entry, Gap
from tailrace.bus.model.event import as_line, encode_json
from tailrace.bus.model.lifecycle import Status
from tailrace.bus.model.merging import merged
from tailrace.bus.model.reading import Bare
from tailrace.gateway.wire.formats import SEVERAL, Message, RenderBare, StreamFormat, sse_opening
from tailrace.gateway.wire.wire import (
    Frame,
    NdjsonWire,
    Shown,
    ShownEntry,
    SocketWire,
    SseWire,
    Wire,
    check_cursor_text,
    frames_of,
    something,
)

logger = logging.getLogger(__name__)

# What one entry may become: several times the largest event.
MAX_SHOWN_BYTES: Final = 1024 * 1024
# Behind the cursor of an entry of several frames: that so many of them have been seen.
_SEEN: Final = re.compile(r"(.*)~([1-9][0-9]?)", re.ASCII | re.DOTALL)
_LINE_ENDS: Final = re.compile("\r\n|\r|\n")
_LENGTH_BYTES: Final = 4

Report = Callable[[Wire, Exception], None]


class OwnFormat(StreamFormat):
    """Renders what a wire shows. Equal wires share one of these, so that their viewers share every frame."""

    heartbeat: bytes

    bare: RenderBare | None

    def __init__(self, wire: Wire, report: Report) -> None:
        self.wire = wire
        # Who tells viewers where they stand has to know which entries are not shown.
        self.bare = self._bare if type(wire).moved is Wire.moved else None
        self.name = f"own:{type(wire).__name__}"
        self._report = report
        # As a rule the cursor is spelled as by Wire itself: then an entry's bytes need not become text and bytes again.
        self._is_plainly_spelled = type(wire).cursor is Wire.cursor

    def entry(self, execution_id: str, entry: Entry) -> bytes:
        return b"".join(self.parts(execution_id, entry))

    def run(self, execution_id: str, run: Sequence[Entry]) -> bytes:
        parts = self.parts(execution_id, merged(run))
        if len(parts) > 1 < len(run):
            # Who has seen only some of them comes back to the last token alone.
            return b"".join([self.entry(execution_id, each) for each in run])
        return b"".join(parts)

    def parts(self, execution_id: str, entry: Entry) -> list[bytes]:
        """Each frame of an entry by itself; each carries a cursor of its own."""
        shown: ShownEntry = tuple.__new__(ShownEntry, entry)
        shown.execution_id = execution_id
        return self._parts(execution_id, entry.cursor.encode(), shown)

    def _bare(self, execution_id: str, entries: Sequence[Bare]) -> bytes:
        parts: list[bytes] = []
        for entry_id, kind, step, ts, data in entries:
            members = (from_id(entry_id), _text(kind), None if step is None else _text(step), ts.decode(), data)
            shown: ShownEntry = tuple.__new__(ShownEntry, (*members, None, None))
            shown.execution_id = execution_id
            parts += self._parts(execution_id, entry_id, shown)
        return b"".join(parts)

    def skipped(self, execution_id: str, cursor: Cursor) -> bytes:
        try:
            frames = frames_of(self.wire.moved(execution_id))
            return b"".join(self._numbered(frames, self._spelled(execution_id, cursor.encode()))) if frames else b""
        except Exception as error:  # noqa: BLE001 - as of an entry
            self._report(self.wire, error)
        # What it would have said is no loss.
        return b""

    def opening(self, execution_id: str, retry_ms: int, cursor: Cursor | None) -> bytes:
        del execution_id, retry_ms, cursor
        return b""

    def control(self, name: str, payload: dict[str, Any]) -> bytes:
        wire, execution_id = self.wire, payload.get("execution_id")
        match name:
            case "stream.open":
                return self._said(name, payload, lambda: wire.opened(payload["execution_id"], payload["status"]))
            case "stream.caught_up":
                return self._said(name, payload, lambda: wire.caught_up(payload["execution_id"]))
            case "stream.gap":
                gap = _gap_of(payload)
                return self._said(name, payload, lambda: wire.gap(payload["execution_id"], gap), needed=True)
            case "stream.reconnect":
                return self._said(name, payload, lambda: wire.sent_away(payload["retry_ms"]))
            case "stream.error":
                failed = lambda: wire.failed(execution_id, payload["code"], payload["detail"])  # noqa: E731 - as the others
                return self._said(name, payload, failed, needed=True)
        return b""

    def end(self, execution_id: str, cursor: Cursor, status: Status, *, told: bool) -> bytes:
        """Say how it ended, unless the last event did; with a cursor at which a reconnect finds out that it has."""
        if told:
            return b""
        return b"".join(self._ended(execution_id, status, self._spelled(execution_id, cursor.encode())))

    def read_cursor(self, text: str, execution_id: str, *, field: str) -> tuple[Cursor, int]:
        """Where a viewer has come to, and how many frames of that entry it has, where that is not all.

        Raises InvalidCursorError.
        """
        if text in START_SPELLINGS:
            return START, 0
        named, cursor, seen = split_cursor(text, self, field=field)
        if named is not None and named != execution_id:
            raise InvalidCursorError(field, f"{text[:200]!r} is of another execution, not of {execution_id}")
        return cursor, seen

    def parse_cursor(self, text: str, field: str) -> tuple[str | None, Cursor]:
        """Raises InvalidCursorError."""
        try:
            return self.wire.parse_cursor(text)
        except InvalidInputError as error:
            raise InvalidCursorError(field, error.detail) from None
        except Exception as error:  # noqa: BLE001 - what a client sends must not break somebody's parser and us
            self._report(self.wire, error)
            raise InvalidCursorError(field, f"{text[:64]!r} is not a cursor of this stream") from None

    def frame(self, shown: Frame) -> bytes:
        """A frame that is of no entry. Raises InvalidInputError for what the wire cannot carry."""
        return self._frame(shown, None)

    def message(self, frames: bytes) -> Message:
        return {"type": "http.response.body", "body": frames, "more_body": True}

    def _parts(self, execution_id: str, entry_id: bytes, entry: ShownEntry) -> list[bytes]:
        try:
            shown = self.wire.show(entry)
            if shown is None:
                if not entry.is_terminal:
                    return []
            elif type(shown) is Frame:
                return [self._frame(shown, self._spelled(execution_id, entry_id))]
            elif frames := frames_of(shown):
                return self._numbered(frames, self._spelled(execution_id, entry_id))
            elif not entry.is_terminal:
                return []
            return self._ended(execution_id, _status_of(entry), self._spelled(execution_id, entry_id))
        except Exception as error:  # noqa: BLE001 - whatever somebody's wire raises is told, and costs nobody else anything
            self._report(self.wire, error)
        return self._not_shown(execution_id, entry_id, entry)

    def _numbered(self, frames: Sequence[Frame], spelled: bytes) -> list[bytes]:
        last = len(frames)
        parts = [
            self._frame(each, spelled if number == last else b"%b~%d" % (spelled, number))
            for number, each in enumerate(frames, 1)
        ]
        if sum(map(len, parts)) > MAX_SHOWN_BYTES:
            raise InvalidInputError("frame", f"the frames of an entry have more than {MAX_SHOWN_BYTES} bytes")
        return parts

    def _not_shown(self, execution_id: str, entry_id: bytes, entry: ShownEntry) -> list[bytes]:
        detail = f"the application failed to show an event of type {entry.type}; its log says why"
        payload = {"code": "entry_not_shown", "detail": detail, "execution_id": execution_id}
        spelled = _plainly(execution_id, entry_id)
        try:
            spelled = self._spelled(execution_id, entry_id)
            frames = frames_of(self.wire.failed(execution_id, "entry_not_shown", detail))
            if entry.is_terminal:
                frames += frames_of(self.wire.ended(execution_id, _status_of(entry)))
            return self._numbered(frames, spelled)
        except Exception as error:  # noqa: BLE001 - as above
            self._report(self.wire, error)
        return self._numbered((self.wire.say("stream.error", payload),), spelled)

    def _ended(self, execution_id: str, status: Status, spelled: bytes) -> list[bytes]:
        try:
            return self._numbered(something("ended", self.wire.ended(execution_id, status)), spelled)
        except Exception as error:  # noqa: BLE001 - as above
            self._report(self.wire, error)
        return self._numbered((Wire.ended(self.wire, execution_id, status),), spelled)  # type: ignore[arg-type]

    def _said(self, name: str, payload: dict[str, Any], say: Callable[[], Shown], *, needed: bool = False) -> bytes:
        try:
            frames = something(name, say()) if needed else frames_of(say())
            return b"".join([self._frame(each, None) for each in frames])
        except Exception as error:  # noqa: BLE001 - as above
            self._report(self.wire, error)
        return self._frame(self.wire.say(name, payload), None)

    def _spelled(self, execution_id: str, entry_id: bytes) -> bytes:
        if self._is_plainly_spelled:
            return _plainly(execution_id, entry_id)
        return check_cursor_text(self.wire.cursor(execution_id, from_id(entry_id))).encode()

    @abstractmethod
    def _frame(self, shown: Frame, cursor: bytes | None) -> bytes:
        """With the cursor, where it is of an entry."""


class OwnSse(OwnFormat):
    heartbeat = b": hb\n"

    def opening(self, execution_id: str, retry_ms: int, cursor: Cursor | None) -> bytes:
        if cursor is None:
            return sse_opening(retry_ms, None)
        return sse_opening(retry_ms, self._spelled(execution_id, cursor.encode()))

    def control(self, name: str, payload: dict[str, Any]) -> bytes:
        # An EventSource obeys the field, not our data: without it, all who are sent away would return at once.
        retry = b"retry: %d\n" % payload["retry_ms"] if "retry_ms" in payload else b""
        return retry + super().control(name, payload)

    def _frame(self, shown: Frame, cursor: bytes | None) -> bytes:
        name, data, text = shown
        lead = b"" if cursor is None else b"id: %b\n" % cursor
        if name is not None:
            lead += _event_line(name)
        if text is None:
            return b"%bdata: %b\n\n" % (lead, _json(data))
        lines = b"\n".join([b"data: %b" % line.encode() for line in _LINE_ENDS.split(text)])
        return b"%b%b\n\n" % (lead, lines)


class _OwnJson(OwnFormat):
    """Objects that carry their cursor themselves."""

    wire: NdjsonWire | SocketWire

    def _payload(self, shown: Frame, cursor: bytes | None) -> bytes:
        name, data, text = shown
        if name is not None:
            raise InvalidInputError("name", f"{name!r}: this wire has no names; use frame(data)")
        if text is not None:
            return text.encode()
        field = self.wire.cursor_field
        if cursor is not None and field is not None and isinstance(data, dict) and field not in data:
            data = {**data, field: cursor.decode()}
        return _json(data)


class OwnNdjson(_OwnJson):
    heartbeat = b"\n"

    def _frame(self, shown: Frame, cursor: bytes | None) -> bytes:
        payload = self._payload(shown, cursor)
        if shown.text is not None and (not shown.text.strip() or _LINE_ENDS.search(shown.text)):
            raise InvalidInputError("text", "is blank or has line breaks; a line is one message, a blank one is none")
        return payload + b"\n"


class OwnSocket(_OwnJson):
    """Each frame is a message. Its length stands before it, and never leaves the gateway."""

    # The protocol's own pings tell both sides that the other lives.
    heartbeat = b""
    is_socket = True

    def _frame(self, shown: Frame, cursor: bytes | None) -> bytes:
        payload = self._payload(shown, cursor)
        return len(payload).to_bytes(_LENGTH_BYTES, "big") + payload

    def message(self, frames: bytes) -> Message:
        messages: list[Message] = []
        at = 0
        while at < len(frames):
            start = at + _LENGTH_BYTES
            at = start + int.from_bytes(frames[at:start], "big")
            messages.append({"type": "websocket.send", "text": frames[start:at].decode()})
        return messages[0] if len(messages) == 1 else {"type": "websocket.send", SEVERAL: messages}


class Wires:
    """The wires in use: equal ones are one format, for as long as anybody has it."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._formats: WeakValueDictionary[Wire, OwnFormat] = WeakValueDictionary()
        # One line of log for each place that fails, however often.
        self._reported: set[tuple[type[Wire], type[Exception], int]] = set()

    def format_of(self, wire: object) -> OwnFormat:
        """Raises InvalidInputError for what is no wire."""
        if not isinstance(wire, SseWire | NdjsonWire | SocketWire):
            raise InvalidInputError("wire", f"{wire!r} is none; derive from SseWire, NdjsonWire or SocketWire")
        found = self._formats.get(wire)
        if found is None:
            found = self._formats[wire] = self._made(wire)
        return found

    def _made(self, wire: SseWire | NdjsonWire | SocketWire) -> OwnFormat:
        match wire:
            case SseWire():
                return OwnSse(wire, self._report)
            case NdjsonWire():
                return OwnNdjson(wire, self._report)
            case SocketWire():
                return OwnSocket(wire, self._report)

    def _report(self, wire: Wire, error: Exception) -> None:
        self._counters.add("wire_errors")
        place = (type(wire), type(error), _line_of(error))
        if place in self._reported or len(self._reported) >= _MAX_REPORTED:
            return
        self._reported.add(place)
        logger.error(
            "%s failed; its viewers are told (reported once for each place)", type(wire).__name__, exc_info=error
        )


_MAX_REPORTED: Final = 256


def _line_of(error: Exception) -> int:
    """The line that raised it."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        line, trace = trace.tb_lineno, trace.tb_next
    return line


def split_cursor(text: str, rendering: OwnFormat | None, *, field: str) -> tuple[str | None, Cursor, int]:
    """The execution that a cursor names, if it does; its place, and how many frames of that entry have been seen.

    As Wire itself spells it, where there is no rendering. Raises InvalidCursorError.
    """
    seen = _SEEN.fullmatch(text)
    whole = text if seen is None else seen[1]
    if rendering is not None:
        named, cursor = rendering.parse_cursor(whole, field)
    else:
        execution_id, colon, rest = whole.rpartition(":")
        named, cursor = execution_id if colon else None, parse(rest, field=field)
    return named, cursor, 0 if seen is None else int(seen[2])


def _plainly(execution_id: str, entry_id: bytes) -> bytes:
    return b"%b:%b" % (execution_id.encode(), entry_id)


def _json(data: Any) -> bytes:
    return as_line(encode_json(data, limit_bytes=MAX_SHOWN_BYTES))


@lru_cache(maxsize=1024)
def _event_line(name: str) -> bytes:
    return b"event: %b\n" % name.encode()


@lru_cache(maxsize=4096)
def _text(raw: bytes) -> str:
    return raw.decode()


def _gap_of(payload: dict[str, Any]) -> Gap:
    earliest, latest = payload["earliest"], payload["latest"]
    return Gap(
        parse(payload["requested"]),
        None if earliest is None else parse(earliest),
        None if latest is None else parse(latest),
        payload["reason"],
    )


def _status_of(entry: Entry) -> Status:
    return cast("Status", entry.type.removeprefix("execution."))
