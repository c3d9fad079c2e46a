"""Where a viewer of several executions is: one cursor each, all of them in every ``Last-Event-ID``. Pure.

``m<digest>:<cursor>,<cursor>,…`` in the order of the executions in the URL, ``0`` where nothing was seen yet. The
digest binds it to them: cursors of one list of executions mean nothing for another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from tailrace.bus.errors import InvalidCursorError
from tailrace.bus.model.cursor import START, START_SPELLINGS, Cursor, parse

_DIGEST_CHARS: Final = 8


class Cursors:
    """The cursors of one viewer, by the index of the execution."""

    __slots__ = ("_lead", "_texts")

    def __init__(self, executions: Sequence[str], cursors: Sequence[Cursor]) -> None:
        self._lead = f"m{digest_of(executions)}:".encode()
        self._texts = [_text(cursor) for cursor in cursors]

    def move(self, index: int, cursor: Cursor) -> None:
        self._texts[index] = _text(cursor)

    def id(self) -> bytes:
        return self._lead + b",".join(self._texts)


def digest_of(executions: Sequence[str]) -> str:
    return hashlib.sha256(",".join(executions).encode()).hexdigest()[:_DIGEST_CHARS]


def parse_cursors(given: str, executions: Sequence[str], *, field: str) -> list[Cursor]:
    """Read what ``Cursors.id`` wrote, or what means the start for one execution too. Raises InvalidCursorError."""
    if given in START_SPELLINGS:
        return [START] * len(executions)
    lead, colon, rest = given.partition(":")
    if not colon or not lead.startswith("m"):
        raise InvalidCursorError(
            field, f"{given[:64]!r} is not an id of this stream; give the last id it sent, or leave it out"
        )
    texts = rest.split(",")
    if lead[1:] != digest_of(executions) or len(texts) != len(executions) or not all(texts):
        raise InvalidCursorError(
            field,
            "belongs to a stream of other executions; give the same executions in the same order, or leave it out",
        )
    return [parse(text, field=field) for text in texts]


def _text(cursor: Cursor) -> bytes:
    return b"0" if cursor == START else b"%d-%d" % cursor
