"""An extractive summary by word frequency (SumBasic), with a liking for what stands first.

Vanderwende et al.: "Beyond SumBasic", Information Processing & Management 43 (2007). TextRank compares each sentence
with each other: too slow for a book, and no better.
"""

# ruff: noqa: RUF001 - typographic and full-width marks are meant
from __future__ import annotations

import heapq
import re
from collections import Counter
from dataclasses import dataclass
from itertools import islice

from tailrace.workers.builtin.document.sentences import MAX_SENTENCE_CHARACTERS, paragraphs, sentences
from tailrace.workers.builtin.document.words import WORD, folded, stopwords, words

_MAX_CANDIDATES = 500
_MIN_WORDS = 5
_MAX_WORDS = 60
_FIRST_IN_PARAGRAPH = 1.15
_OPENING_SENTENCES = 3
_OPENING = 1.3
_BULLET = re.compile(r"\A[-*+•–] ")
_ENDS = (".", "!", "?", "…", "。", "！", "？", '."', ".”", ".)")


@dataclass(frozen=True, slots=True)
class _Sentence:
    number: int
    text: str
    words: int
    content: tuple[str, ...]
    liking: float


def summarize(text: str, *, sentences: int = 5, max_words: int = 150) -> list[str]:
    """The sentences of `text` that say most of it, in the order of the text.

    At most `sentences`, in all at most `max_words`; white space inside them is collapsed. Never empty if there is
    a word in `text`: when each sentence is too long, the beginning of the best is given, with an ellipsis.

    The same text gives the same summary. Raises ValueError if `sentences` or `max_words` is below 1.
    """
    for name, limit in (("sentences", sentences), ("max_words", max_words)):
        if limit < 1:
            raise ValueError(f"{name} is {limit}: it must be 1 or more")
    every = _read(text)
    weights = _weights(every)
    fitting = [each for each in every if each.words <= max_words and len(each.text) <= MAX_SENTENCE_CHARACTERS]
    if not fitting:
        longest = max(every, key=lambda each: (_score(each, weights), -each.number), default=None)
        return [] if longest is None else [_beginning(longest.text, max_words)]
    candidates = heapq.nlargest(
        _MAX_CANDIDATES,
        [each for each in fitting if _is_prose(each)] or fitting,
        key=lambda each: (_score(each, weights), -each.number),
    )
    chosen: list[_Sentence] = []
    room = max_words
    while len(chosen) < sentences and (candidates := [each for each in candidates if each.words <= room]):
        best = max(candidates, key=lambda each: (_score(each, weights), -each.number))
        chosen.append(best)
        room -= best.words
        candidates = [each for each in candidates if each.text != best.text]
        for word in set(best.content):
            weights[word] **= 2  # what has been said once needs not be said again
    return [each.text for each in sorted(chosen, key=lambda each: each.number)]


def _read(text: str) -> list[_Sentence]:
    first_in_paragraph = {start for start, _ in paragraphs(text)}
    found = [(start, _BULLET.sub("", " ".join(text[start:end].split()))) for start, end in sentences(text)]
    ignored = stopwords(folded(word) for _, sentence in found[:500] for word in words(sentence))
    result = []
    for number, (start, sentence) in enumerate(found):
        said = words(sentence)
        if not said:
            continue
        liking = _FIRST_IN_PARAGRAPH if start in first_in_paragraph else 1.0
        if number < _OPENING_SENTENCES:
            liking *= _OPENING
        content = tuple(name for word in said if (name := folded(word)) not in ignored and not name.isdigit())
        result.append(_Sentence(number, sentence, len(said), content, liking))
    return result


def _weights(every: list[_Sentence]) -> dict[str, float]:
    counts = Counter(word for each in every for word in each.content)
    total = counts.total()
    return {word: count / total for word, count in counts.items()}


def _score(sentence: _Sentence, weights: dict[str, float]) -> float:
    if not sentence.content:
        return 0.0
    # The mean over all words, not over those with content: it prefers dense sentences.
    return sentence.liking * sum(weights[word] for word in sentence.content) / sentence.words


def _is_prose(sentence: _Sentence) -> bool:
    """Not a heading, a row of a table or a line of code."""
    return _MIN_WORDS <= sentence.words <= _MAX_WORDS and sentence.text.endswith(_ENDS) and " | " not in sentence.text


def _beginning(text: str, max_words: int) -> str:
    following = next(islice(WORD.finditer(text), max_words, None), None)
    cut = min(len(text) if following is None else following.start(), MAX_SENTENCE_CHARACTERS)
    return text[:cut].rstrip() + " …"
