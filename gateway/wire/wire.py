"""Wires: the shape in which viewers get an execution's entries, to be derived from for one of one's own. Pure.

    class AgentWire(SseWire):
        def show(self, entry):
            match entry.type:
                case "trace":
                    return frame("trace", entry.data)
                case "execution.completed":
                    return frame("command_output", entry.data["result"])

An entry is shown once, and the same bytes go to all viewers of equal wires: what ``show`` gives may depend on the entry
and on the wire's own attributes, which must not change once it is in use, and on nothing else.
"""

from __future__ import annotations

import re
import typing
from abc import ABCMeta, abstractmethod
from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Final, NamedTuple

import orjson

from tailrace.bus.errors import InvalidInputError
from tailrace.bus.model.cursor import Cursor, parse
from tailrace.bus.model.entry import Entry, Gap, GapReason
from tailrace.bus.model.lifecycle import Status

MAX_NAME_CHARS: Final = 128
MAX_CURSOR_CHARS: Final = 512
# What an entry costs is bounded, whatever a generator gives.
MAX_FRAMES: Final = 64

_PRINTABLE: Final = re.compile("[ -~]+")
_SAMPLE: Final = Cursor(1760000000000, 7)
_SAMPLE_ID: Final = "execution-1"
_REASONS: Final[tuple[GapReason, ...]] = typing.get_args(GapReason)


class Frame(NamedTuple):
    """What ``frame`` makes: data to be written as JSON, or ``text`` that is written as it stands."""

    name: str | None
    data: Any
    text: str | None


def frame(*parts: Any, text: str | None = None) -> Frame:
    """One message to a viewer: ``frame(data)``, or ``frame(name, data)`` where the wire has names, as SSE does.

    ``data`` is any JSON value. ``text`` stands in its place for what is not JSON: ``frame(text="[DONE]")``. Raises
    InvalidInputError for a name that is empty, too long, or would break the frame.
    """
    if text is not None:
        if not isinstance(text, str):
            raise InvalidInputError("text", f"is text to be written as it stands, not {type(text).__name__}")
        parts = (*parts, None)
    match parts:
        case (data,):
            return Frame(None, data, text)
        case (name, data):
            return Frame(_checked_name(name), data, text)
    raise InvalidInputError("frame", "takes frame(data), frame(name, data), frame(text=…) or frame(name, text=…)")


def _checked_name(name: object) -> str:
    if not isinstance(name, str):
        raise InvalidInputError("name", f"is text, not {type(name).__name__}; the data comes second")
    return _check_name(name)


@lru_cache(maxsize=1024)
def _check_name(name: str) -> str:
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise InvalidInputError("name", f"{name[:40]!r} is not a name of 1 to {MAX_NAME_CHARS} printable characters")
    return name


Shown = Frame | Iterable[Frame] | None


class ShownEntry(Entry):
    """An entry as ``Wire.show`` gets it: it knows its execution, and reads its data once."""

    execution_id: str

    @cached_property
    def data(self) -> Any:
        return orjson.loads(self.raw_data)


class _WireType(ABCMeta):
    def __call__(cls, *given: Any, **options: Any) -> Any:
        wire = super().__call__(*given, **options)
        _check(wire)
        return wire


class Wire(metaclass=_WireType):
    """Derive from ``SseWire``, ``NdjsonWire`` or ``SocketWire``, and say in ``show`` what an entry looks like.

    The other methods say what is to be told about the stream itself; each has words of ours until one's own replace
    them. Making a wire that could hide a loss, or whose cursors cannot be read back, raises InvalidInputError.

    Two wires are equal when they are of one class and have equal attributes; then they share what is rendered. Another
    rule is a matter of ``__eq__`` and ``__hash__``.
    """

    @abstractmethod
    def show(self, entry: ShownEntry) -> Shown:
        """Give one frame for an entry, several, or None to leave it out.

        What it raises costs those who watch this entry's execution an error in the entry's place, and nothing else.
        """

    def opened(self, execution_id: str, status: Status) -> Shown:
        """Say what the stream begins with; nothing, if not overridden."""
        del execution_id, status
        return None

    def caught_up(self, execution_id: str) -> Shown:
        """Say, once, that what comes from now on happens now; nothing, if not overridden."""
        del execution_id
        return None

    def moved(self, execution_id: str) -> Shown:
        """Say where a viewer stands to whom ``show`` gave nothing for a second, or a hundred entries.

        The frame carries the cursor. Nothing, if not overridden: then who comes back is told a gap where entries that
        it was not shown have been trimmed meanwhile, since the log no longer tells what they were.
        """
        del execution_id
        return None

    def gap(self, execution_id: str, gap: Gap) -> Shown:
        """Say that events are lost to this viewer; it must say something."""
        return self.say("stream.gap", {"execution_id": execution_id, **gap.members()})

    def ended(self, execution_id: str, status: Status) -> Shown:
        """Say how the execution ended, where ``show`` did not show its last event, or that is lost."""
        return self.say("stream.end", {"execution_id": execution_id, "status": status})

    def failed(self, execution_id: str | None, code: str, detail: str) -> Shown:
        """Say that the stream ends here for a reason of its own, or (``entry_not_shown``) that ``show`` has failed.

        ``execution_id`` is None where it is about the connection. Codes are those of docs/errors.md.
        """
        members = {"code": code, "detail": detail}
        return self.say("stream.error", members if execution_id is None else {**members, "execution_id": execution_id})

    def sent_away(self, retry_ms: int) -> Shown:
        """Say that the viewer is to come back after so long, because this gateway stops."""
        return self.say("stream.reconnect", {"retry_ms": retry_ms})

    def cursor(self, execution_id: str, cursor: Cursor) -> str:
        """Spell a place in the log, as a viewer gives it back to go on from there: ``<execution>:<cursor>``.

        So one string resumes, also where the execution is in no URL. Override it together with ``parse_cursor``.
        """
        return f"{execution_id}:{cursor}"

    def parse_cursor(self, text: str) -> tuple[str | None, Cursor]:
        """Read what ``cursor`` wrote: the execution, None where the spelling does not name it, and the place in it.

        Raises InvalidCursorError.
        """
        execution_id, colon, cursor = text.rpartition(":")
        return execution_id if colon else None, parse(cursor)

    @abstractmethod
    def say(self, name: str, members: dict[str, Any]) -> Frame:
        """Put a message of ours into a frame, for what has no words of the wire's own."""

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return self is other or vars(self) == vars(other)

    def __hash__(self) -> int:
        try:
            return hash((type(self), *sorted(vars(self).items())))
        except TypeError:
            return hash(type(self))


class SseWire(Wire):
    """Server-Sent Events: ``frame(name, data)``, or ``frame(data)`` for ``EventSource.onmessage``.

    The wire adds ``id:`` to what is of an entry, ``retry:``, and a comment as heartbeat.
    """

    def say(self, name: str, members: dict[str, Any]) -> Frame:
        return Frame(name, members, None)


class NdjsonWire(Wire):
    """One JSON value a line, ``frame(data)``; an empty line as heartbeat.

    ``cursor_field`` is the member in which an object carries the cursor to resume from; None for objects that are to
    stay as they are. A member of that name which ``show`` gives stays, too.
    """

    cursor_field: ClassVar[str | None] = "id"

    def say(self, name: str, members: dict[str, Any]) -> Frame:
        return Frame(None, {"type": name, **members}, None)


class SocketWire(Wire):
    """Text messages of a WebSocket, one for each ``frame(data)``; ``cursor_field`` is as for NdjsonWire."""

    cursor_field: ClassVar[str | None] = "id"

    def say(self, name: str, members: dict[str, Any]) -> Frame:
        return Frame(None, {"type": name, **members}, None)


def _check(wire: Wire) -> None:
    """Raises InvalidInputError for one that would hide a loss, or cannot be resumed."""
    name = type(wire).__name__
    for reason in _REASONS:
        something(f"{name}.gap", wire.gap(_SAMPLE_ID, Gap(_SAMPLE, _SAMPLE, _SAMPLE, reason)))
    something(f"{name}.ended", wire.ended(_SAMPLE_ID, "failed"))
    something(f"{name}.failed", wire.failed(_SAMPLE_ID, "sample", "a sample"))
    text = check_cursor_text(wire.cursor(_SAMPLE_ID, _SAMPLE))
    try:
        read = wire.parse_cursor(text)
    except InvalidInputError as error:
        raise InvalidInputError("parse_cursor", f"{name}.parse_cursor cannot read {text!r}: {error.detail}") from None
    if read not in {(_SAMPLE_ID, _SAMPLE), (None, _SAMPLE)}:
        raise InvalidInputError("parse_cursor", f"{name}.parse_cursor reads {text!r} as {read!r}")
    try:
        hash(wire)
    except TypeError as error:
        raise InvalidInputError("wire", f"{error}: give {name} a __hash__, as dataclass(frozen=True) does") from None


def check_cursor_text(text: object) -> str:
    """Return a spelled cursor that fits into every frame. Raises InvalidInputError."""
    if not isinstance(text, str) or not 0 < len(text) <= MAX_CURSOR_CHARS or not _PRINTABLE.fullmatch(text):
        raise InvalidInputError("cursor", f"a cursor is 1 to {MAX_CURSOR_CHARS} printable ASCII characters")
    return text


def something(what: str, shown: Shown) -> tuple[Frame, ...]:
    """Frames of what must not be left unsaid. Raises InvalidInputError."""
    frames = frames_of(shown)
    if not frames:
        raise InvalidInputError(what, "says nothing; it must give a frame, or a loss would go unseen")
    return frames


def frames_of(shown: Shown) -> tuple[Frame, ...]:
    """Raises InvalidInputError for what is no frame."""
    if shown is None:
        return ()
    if isinstance(shown, Frame):
        return (shown,)
    if isinstance(shown, str | bytes | Mapping) or not isinstance(shown, Iterable):
        raise InvalidInputError("frame", f"{type(shown).__name__} is no frame; give frame(…), several, or None")
    frames: list[Frame] = []
    for each in shown:
        if not isinstance(each, Frame):
            raise InvalidInputError("frame", f"{type(each).__name__} is no frame; give frame(…), several, or None")
        frames.append(each)
        if len(frames) > MAX_FRAMES:
            raise InvalidInputError("frame", f"an entry has at most {MAX_FRAMES} frames")
    return tuple(frames)
