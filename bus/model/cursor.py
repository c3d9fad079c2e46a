"""Positions in a log. Pure.

An entry's id is ``<ms>-<n>``: ms from Redis's own clock, n the entry's number in its execution.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from tailrace.bus.errors import InvalidCursorError

# Redis ids are two unsigned 64-bit numbers; leading zeros would make two spellings of one id.
_PATTERN = re.compile(r"(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19})", re.ASCII)
_MAX_PART = 2**64 - 1
# What EventSource polyfills and hand-written clients send for "I have nothing yet".
START_SPELLINGS: Final = frozenset({"", "0", "-1", "0-0"})
# How one asks, in place of a cursor, for what comes from now on.
TAIL: Final = "tail"


class Cursor(NamedTuple):
    """The id after which one reads on. Ordered like Redis orders stream ids."""

    ms: int
    n: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.n}"

    def encode(self) -> bytes:
        """As Redis spells it."""
        return b"%d-%d" % self


START = Cursor(0, 0)


def from_id(entry_id: bytes) -> Cursor:
    """Read an id that Redis itself gave; trusted to be well formed."""
    ms, n = entry_id.split(b"-")
    return tuple.__new__(Cursor, (int(ms), int(n)))


def just_before(cursor: Cursor) -> Cursor:
    """The id that sorts directly before another one; no entry need have it."""
    return Cursor(cursor.ms, cursor.n - 1) if cursor.n else Cursor(max(0, cursor.ms - 1), _MAX_PART)


def parse(text: str, *, field: str = "cursor") -> Cursor:
    """Check a cursor that came from outside; ``-1``, ``0`` and nothing mean the start.

    Raises InvalidCursorError that names ``field``.
    """
    if text in START_SPELLINGS:
        return START
    match = _PATTERN.fullmatch(text)
    if match is None:
        shown = text if len(text) <= 64 and text.isprintable() else repr(text[:64])  # noqa: PLR2004 - an error stays short
        raise InvalidCursorError(field, f"{shown!r} is not a cursor; expected '<ms>-<n>', '0' or '-1'")
    ms, n = int(match[1]), int(match[2])
    if ms > _MAX_PART or n > _MAX_PART:
        raise InvalidCursorError(field, f"{text!r} does not fit into two unsigned 64-bit numbers")
    return Cursor(ms, n)
