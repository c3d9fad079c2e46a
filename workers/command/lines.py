"""Bytes of a stream to lines of text. Pure."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

Stream = Literal["stdout", "stderr"]

MAX_LINE_BYTES: Final = 65_536
MIN_LINE_BYTES: Final = 12
"""The longest character of UTF-8, four bytes, each replaced by U+FFFD: a line is not cut inside one."""

# What a line's event has beside its text, as JSON; see OutputLine.event_data.
_EVENT_OVERHEAD_BYTES: Final = 64
_CONTINUATION_BYTE = 0b1000_0000
# What JSON writes in two bytes (\"), in six (\u0000), and what may be no UTF-8: U+FFFD has three bytes.
_IN_TWO_BYTES: Final = b'"\\\b\t\n\f\r'
_IN_SIX_BYTES: Final = bytes(set(range(0x20)) - set(_IN_TWO_BYTES))
_HIGH_BYTES: Final = bytes(range(0x80, 0x100))
_MOST_BYTES_OF_HIGH: Final = 3
_MOST_BYTES_OF_ANY: Final = 6
_PERCENTAGE = re.compile(r"(?<![\d.,])(\d{1,3}(?:\.\d+)?) ?%")
_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class OutputLine:
    """One line of output, without its end. With `truncated`, it goes on in the next line of the same stream.

    With `overwritten` it is a state of a line that the program writes over, as progress bars do: not a line yet.
    """

    stream: Stream
    text: str
    truncated: bool = False
    overwritten: bool = False

    @property
    def event_data(self) -> dict[str, Any]:
        """The data of its ``log`` event."""
        data: dict[str, Any] = {"text": self.text, "stream": self.stream}
        return {**data, "truncated": True} if self.truncated else data


def line_limit(max_event_bytes: int) -> int:
    """How long a line may be for its event to have that size."""
    return min(MAX_LINE_BYTES, max_event_bytes - _EVENT_OVERHEAD_BYTES)


class Splitter:
    r"""Splits one stream into lines at `\n` and `\r\n`. A lone `\r` goes back to the beginning of the line.

    What a progress bar writes between two of them is given out as it stands, as `overwritten`; the line is what stood
    there last when it ends.

    Holds at most `max_line_bytes` (and the chunk it was given): a longer line is given out in parts. The limit is on
    the text as JSON, which writes six bytes for a NUL. What is not UTF-8 is replaced by U+FFFD.
    """

    def __init__(self, stream: Stream, max_line_bytes: int) -> None:
        if max_line_bytes < MIN_LINE_BYTES:
            raise ValueError(f"max_line_bytes is {max_line_bytes}: it must be {MIN_LINE_BYTES} or more")
        self._stream: Stream = stream
        self._max_line_bytes = max_line_bytes
        self._held = bytearray()
        # Never below what it has as JSON: to know that exactly costs more.
        self._held_most_bytes = 0
        # What stands in the line since the last "\r".
        self._overwritten: str | None = None

    def feed(self, chunk: bytes) -> Iterator[OutputLine]:
        """The lines that end in `chunk`. Take all of them before the next call."""
        start = 0
        for end in _LINE_END.finditer(chunk):
            self._hold(chunk[start : end.start()])
            start = end.end()
            yield from self._parts()
            if end[0] != b"\r":
                yield self._ended()
            elif self._held:
                line = self._line(len(self._held), truncated=False)
                self._overwritten = line.text
                yield replace(line, overwritten=True)
        self._hold(chunk[start:])
        yield from self._parts()

    def close(self) -> Iterator[OutputLine]:
        """The last line, if it lacks its end."""
        if self._held or self._overwritten is not None:
            yield self._ended()

    def _ended(self) -> OutputLine:
        """The two bytes of an end may come in two chunks: then nothing has overwritten what stood there."""
        text, self._overwritten = self._overwritten, None
        if self._held or text is None:
            return self._line(len(self._held), truncated=False)
        return OutputLine(self._stream, text)

    def _hold(self, part: bytes) -> None:
        self._held += part
        self._held_most_bytes += _MOST_BYTES_OF_ANY * len(part)

    def _parts(self) -> Iterator[OutputLine]:
        while self._held_most_bytes > self._max_line_bytes and (size := self._cut()):
            yield self._line(size, truncated=True)

    def _cut(self) -> int:
        """Where to cut: before the character that the limit falls into. 0 if the line is within the limit."""
        self._held_most_bytes = _json_bytes(self._held, _MOST_BYTES_OF_HIGH)
        if self._held_most_bytes <= self._max_line_bytes:
            return 0
        of_high, broken_bytes = _utf8(self._held)
        if _json_bytes(self._held, of_high) + broken_bytes <= self._max_line_bytes:
            return 0
        at, end, left_bytes = 0, min(len(self._held) - 1, self._max_line_bytes), self._max_line_bytes
        while at < end:
            middle = (at + end + 1) // 2
            size = _json_bytes(self._held[at:middle], of_high)
            if size <= left_bytes:
                at, left_bytes = middle, left_bytes - size
            else:
                end = middle - 1
        for before in range(at, at - 4, -1):
            if self._held[before] & 0b1100_0000 != _CONTINUATION_BYTE:
                return before
        return at

    def _line(self, size: int, *, truncated: bool) -> OutputLine:
        text = self._held[:size].decode("utf-8", "replace")
        del self._held[:size]
        self._held_most_bytes = _MOST_BYTES_OF_ANY * len(self._held)
        return OutputLine(self._stream, text, truncated)


def fraction_of(text: str) -> float | None:
    """What the last percentage in the state of a progress bar comes to, from 0 to 1; None where it names none."""
    shown = _PERCENTAGE.findall(text)
    return float(shown[-1]) / 100 if shown and float(shown[-1]) <= 100 else None  # noqa: PLR2004 - per cent


def _json_bytes(raw: bytes | bytearray, of_high: int) -> int:
    """How many bytes JSON writes for it, if each byte above 0x7f comes to ``of_high``."""
    size = len(raw)
    in_two = size - len(raw.translate(None, _IN_TWO_BYTES))
    in_six = size - len(raw.translate(None, _IN_SIX_BYTES))
    high = size - len(raw.translate(None, _HIGH_BYTES)) if of_high > 1 else 0
    return size + in_two + 5 * in_six + (of_high - 1) * high


def _utf8(raw: bytearray) -> tuple[int, int]:
    """(What a byte above 0x7f comes to, what the character that ends it may come to if the rest is missing)."""
    try:
        whole_bytes = codecs.utf_8_decode(raw, "strict", False)[1]  # noqa: FBT003 - the codec's own signature
    except UnicodeDecodeError:
        return _MOST_BYTES_OF_HIGH, 0
    return 1, 0 if whole_bytes == len(raw) else _MOST_BYTES_OF_HIGH
