"""Finds the marks in what a viewer received and checks every one of them. Pure.

A chunk is parsed once and may be shown to many viewers: those of one execution receive the same bytes.
"""

from __future__ import annotations

from typing import Final

from bench.load.mark import NUMBER, OFFERED_NS, RUN, SIGN, WIDTH

_MIXED: Final = -1
_NUMBERS: Final[list[bytes]] = []


def _numbers(first: int, count: int) -> list[bytes]:
    while len(_NUMBERS) < first + count:
        _NUMBERS.append(b"%08d" % len(_NUMBERS))
    return _NUMBERS[first : first + count]


class Chunk:
    """The marks of some received bytes, and the unfinished mark at their end, if any."""

    __slots__ = ("carry", "count", "data", "first", "marks", "run", "unbroken")

    def __init__(self, data: bytes) -> None:
        self.data = data
        marks = data.split(SIGN)
        del marks[0]
        self.carry = b""
        if marks and len(marks[-1]) < WIDTH:
            self.carry = SIGN + marks.pop()
        self.marks = marks
        self.count = len(marks)
        if not marks:
            return
        first_mark = marks[0]
        self.first = int(first_mark[NUMBER])
        self.run = int(first_mark[RUN])
        self.unbroken = True
        if self.count > 1:
            run = first_mark[RUN]
            if any(mark[RUN] != run for mark in marks):
                self.run = _MIXED
            self.unbroken = [mark[NUMBER] for mark in marks] == _numbers(self.first, self.count)

    def latencies_ns(self, now_ns: int) -> list[int]:
        return [now_ns - int(mark[OFFERED_NS]) for mark in self.marks]


class Viewer:
    """What one viewer of one execution has received: exactly, or what was wrong with it."""

    __slots__ = ("carry", "duplicates", "foreign", "gaps", "next", "run")

    def __init__(self, run: int, first: int = 1) -> None:
        self.run = run
        self.next = first
        self.carry = b""
        self.gaps = 0
        self.duplicates = 0
        self.foreign = 0

    def take(self, chunk: Chunk) -> None:
        self.carry = chunk.carry
        if not chunk.count:
            return
        if chunk.unbroken and chunk.first == self.next and chunk.run == self.run:
            self.next += chunk.count
        else:
            self._take_each(chunk)

    def _take_each(self, chunk: Chunk) -> None:
        for mark in chunk.marks:
            number = int(mark[NUMBER])
            if int(mark[RUN]) != self.run:
                self.foreign += 1
            elif number < self.next:
                self.duplicates += 1
            else:
                self.gaps += number - self.next
                self.next = number + 1
