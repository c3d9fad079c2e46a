"""Where sentences and paragraphs begin and end. Linear in the length of the text, whatever is in it."""

# ruff: noqa: SIM905, RUF001 - word lists read better as text; typographic and full-width marks are meant
from __future__ import annotations

import re
from collections.abc import Iterator

Span = tuple[int, int]
"""Start and end offsets; neither the first nor the last character is white space."""

MAX_SENTENCE_CHARACTERS = 1000
"""A longer sentence (a table, a list of numbers, a text without punctuation) is cut between words."""

_PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n\s*")
_SPACE = re.compile(r"\s")
_LIST_ITEM = re.compile(r"\n(?=[^\S\n]*(?:[-*+•–]|\d{1,3}[.)])[^\S\n])")
_SENTENCE_END = re.compile(r"""[.!?…]{1,8}["'”’»)\]]{0,3}(?=\s)|[。！？]["'”’」』)]{0,3}""")
_LAST_WORD = re.compile(r"[\w.]{1,20}\Z")
_GOES_ON = re.compile(r"\s*[a-zß-öø-ÿ,;:]")
# Those that a name or another word follows. "etc." and "Inc." may end a sentence as well: a small letter tells.
_ABBREVIATIONS = frozenset(
    """
    approx ca cf dept dr e.g eds gen gov hon i.e messrs mr mrs ms mt prof ref rep rev sen st vs
    bzw d.h dipl evtl ggf hrsg hr inkl o.ä s.o s.u sog u.a vgl z.b z.t
    """.split()
)
# Those that a number follows: "no. 5", but "They said no."
_BEFORE_NUMBERS = frozenset("abb abs art bd ch eq eqs fig figs kap no nos nr op p pp s sec tab vol".split())
_NUMBER = re.compile(r"\s*[\dIVX]")


def paragraphs(text: str) -> Iterator[Span]:
    """The paragraphs of `text`: what blank lines separate."""
    start = 0
    for end in _PARAGRAPH_END.finditer(text):
        yield from _trimmed(text, start, end.start())
        start = end.end()
    yield from _trimmed(text, start, len(text))


def sentences(text: str) -> Iterator[Span]:
    """The sentences of `text`, in order; they cover all but white space.

    A sentence ends with its paragraph or its list item, too. Abbreviations and initials don't end one.
    """
    for start, end in paragraphs(text):
        for sentence_start, sentence_end in _within(text, start, end):
            yield from _cut(text, sentence_start, sentence_end)


def _within(text: str, start: int, end: int) -> Iterator[Span]:
    for item_start, item_end in _split(text, start, end, _LIST_ITEM):
        begin = item_start
        for mark in _SENTENCE_END.finditer(text, item_start, item_end):
            if not _ends(text, begin, mark, item_end):
                continue
            yield from _trimmed(text, begin, mark.end())
            begin = mark.end()
        yield from _trimmed(text, begin, item_end)


def _split(text: str, start: int, end: int, separator: re.Pattern[str]) -> Iterator[Span]:
    for match in separator.finditer(text, start, end):
        yield start, match.start()
        start = match.end()
    yield start, end


def _ends(text: str, begin: int, mark: re.Match[str], end: int) -> bool:
    if mark[0] != ".":
        return not _GOES_ON.match(text, mark.end(), end) or mark[0][0] in "。！？"
    if _GOES_ON.match(text, mark.end(), end):
        return False
    word = _LAST_WORD.search(text, max(begin, mark.start() - 20), mark.start())
    if word is None:
        return True
    last = word[0].casefold().lstrip(".")
    is_initial = len(last) == 1 and last.isalpha() and word[0][-1].isupper()
    is_item_number = last.isdigit() and not text[begin : word.start()].strip()
    is_reference = last in _BEFORE_NUMBERS and _NUMBER.match(text, mark.end(), end) is not None
    return not (is_initial or is_item_number or is_reference or last in _ABBREVIATIONS)


def _cut(text: str, start: int, end: int) -> Iterator[Span]:
    while end - start > MAX_SENTENCE_CHARACTERS:
        space = _last_space(text, start, start + MAX_SENTENCE_CHARACTERS)
        if space is None:
            space = _first_space(text, start + MAX_SENTENCE_CHARACTERS, end)
        yield from _trimmed(text, start, space)
        start = space
    yield from _trimmed(text, start, end)


def _last_space(text: str, start: int, end: int) -> int | None:
    """Where the white space before the last word that begins in the range is; None if it has one word only."""
    for at in range(end, start, -1):
        if text[at].isspace():
            return at
    return None


def _first_space(text: str, start: int, end: int) -> int:
    found = _SPACE.search(text, start, end)
    return found.start() if found else end


def _trimmed(text: str, start: int, end: int) -> Iterator[Span]:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    if start < end:
        yield start, end
