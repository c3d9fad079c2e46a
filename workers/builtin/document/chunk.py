"""A text in pieces of a bounded number of words, as an index or a model wants it."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from tailrace.workers.builtin.document.sentences import paragraphs, sentences

_WORD = re.compile(r"\S+")
_WELL_FILLED = 0.75


@dataclass(frozen=True, slots=True)
class Chunk:
    """`text` is `source[start:end]`; `words` are what white space separates."""

    index: int
    text: str
    words: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Piece:
    start: int
    end: int
    words: int
    ends_paragraph: bool


def chunk(text: str, *, max_words: int = 200, overlap_words: int = 20) -> list[Chunk]:
    """`text` in chunks of at most `max_words`, in order, covering every word.

    A chunk ends with a paragraph where that leaves it well filled, otherwise with a sentence, and inside a
    sentence only when that is longer than a chunk. It begins with up to `overlap_words` last words of the one
    before, so that what is said across the border can be found. Raises ValueError for limits that make no sense.
    """
    if max_words < 1:
        raise ValueError(f"max_words is {max_words}: it must be 1 or more")
    if not 0 <= overlap_words < max_words:
        raise ValueError(
            f"overlap_words is {overlap_words}: it must be 0 or more, and less than max_words ({max_words})"
        )
    chunks: list[Chunk] = []
    start = end = words = 0
    is_open = False  # a chunk holds more than the overlap

    def close() -> None:
        nonlocal is_open
        chunks.append(Chunk(len(chunks), text[start:end], words, start, end))
        is_open = False

    for piece in _pieces(text, max_words):
        if is_open and words + piece.words > max_words:
            close()
        if not is_open:
            overlap = min(overlap_words, max_words - piece.words)
            start, words = _back(text, start, end, overlap) if chunks and overlap else (piece.start, 0)
            is_open = True
        end = piece.end
        words += piece.words
        if piece.ends_paragraph and words >= _WELL_FILLED * max_words:
            close()
    if is_open:
        close()
    return chunks


def _pieces(text: str, max_words: int) -> Iterator[_Piece]:
    """Sentences, and those of more than `max_words` in parts."""
    ends = iter(paragraphs(text))
    paragraph_end = 0
    for start, end in sentences(text):
        while paragraph_end < end:
            paragraph_end = next(ends)[1]
        part_start = part_end = start
        words = 0
        for word in _WORD.finditer(text, start, end):
            if words == max_words:
                yield _Piece(part_start, part_end, words, ends_paragraph=False)
                part_start, words = word.start(), 0
            part_end = word.end()
            words += 1
        yield _Piece(part_start, end, words, ends_paragraph=end == paragraph_end)


def _back(text: str, start: int, end: int, count: int) -> tuple[int, int]:
    """(offset, number) of the last `count` words of `text[start:end]`."""
    last = deque((word.start() for word in _WORD.finditer(text, start, end)), maxlen=count)
    return last[0], len(last)
