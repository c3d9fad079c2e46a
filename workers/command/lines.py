"""Bytes of a stream to lines of text. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Stream = Literal["stdout", "stderr"]

MIN_LINE_BYTES = 4
"""The longest character of UTF-8: a line is not cut inside one."""

_CONTINUATION_BYTE = 0b1000_0000
_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of output, without its end. With `truncated`, it goes on in the next line of the same stream."""

    stream: Stream
    text: str
    truncated: bool = False


class Splitter:
    r"""Splits one stream into lines at `\n`, `\r\n` and a lone `\r`, as progress bars write it.

    Holds at most `max_line_bytes` (and the chunk it was given): a longer line is given out in parts. What is no
    UTF-8 is replaced by U+FFFD.
    """

    def __init__(self, stream: Stream, max_line_bytes: int) -> None:
        if max_line_bytes < MIN_LINE_BYTES:
            raise ValueError(f"max_line_bytes is {max_line_bytes}: it must be {MIN_LINE_BYTES} or more")
        self._stream: Stream = stream
        self._max_line_bytes = max_line_bytes
        self._held = bytearray()
        self._after_return = False

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """The lines that end in `chunk`. Take all of them before the next call."""
        if not chunk:
            return
        # A line ended by "\r" is given out at once: "\n", should it follow, belongs to it.
        start = 1 if self._after_return and chunk.startswith(b"\n") else 0
        self._after_return = chunk.endswith(b"\r")
        for end in _LINE_END.finditer(chunk, start):
            self._held += chunk[start : end.start()]
            start = end.end()
            yield from self._parts()
            yield self._line(len(self._held), truncated=False)
        self._held += chunk[start:]
        yield from self._parts()

    def close(self) -> Iterator[Line]:
        """The last line, if it lacks its end."""
        if self._held:
            yield self._line(len(self._held), truncated=False)

    def _parts(self) -> Iterator[Line]:
        while len(self._held) > self._max_line_bytes:
            yield self._line(self._cut(), truncated=True)

    def _cut(self) -> int:
        """Where to cut: before the character that the limit falls into."""
        for at in range(self._max_line_bytes, self._max_line_bytes - MIN_LINE_BYTES, -1):
            if self._held[at] & 0b1100_0000 != _CONTINUATION_BYTE:
                return at
        return self._max_line_bytes

    def _line(self, size: int, *, truncated: bool) -> Line:
        text = self._held[:size].decode("utf-8", "replace")
        del self._held[:size]
        return Line(self._stream, text, truncated)
