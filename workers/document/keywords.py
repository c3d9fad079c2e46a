"""Keywords by C-value: terms that occur often, longer ones before the words they are made of.

Frantzi, Ananiadou, Mima: "Automatic recognition of multi-word terms", Int. J. on Digital Libraries 3 (2000). A term
that mostly occurs inside a longer one ("value store" in "key value store") loses what it owes to that.
"""

# ruff: noqa: RUF001 - typographic apostrophes are meant
from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from .words import WORD, folded, stopwords

_MAX_TERM_WORDS = 3
_SEPARATOR = re.compile(r"[^\w\s'’-]|\s[-'’]|[-'’]\s|\n\s*\n")
_MIN_LETTERS = 2


@dataclass(frozen=True, slots=True)
class Keyword:
    """`phrase` as it is mostly written in the text, `count` how often; `score` compares within one text only."""

    phrase: str
    score: float
    count: int


Term = tuple[str, ...]


def keywords(text: str, top: int = 10) -> list[Keyword]:
    """The `top` keywords of `text`, best first. The same text gives the same keywords, always.

    Raises ValueError if `top` is below 1.
    """
    if top < 1:
        raise ValueError(f"top is {top}: it must be 1 or more")
    runs = [run for part in _SEPARATOR.split(text) if (run := WORD.findall(part))]
    ignored = stopwords(folded(word) for run in runs for word in run)
    runs = [terms for run in runs for terms in _content(run, ignored)]
    names = _names(runs)
    counts = _count_terms(runs, names)
    scores = _c_values(counts)
    best = sorted(scores, key=lambda term: (-scores[term], term))[:top]
    written = _most_written(runs, names, frozenset(best))
    return [Keyword(written[term], round(scores[term], 3), counts[term]) for term in best if scores[term] > 0]


def _content(run: list[str], ignored: frozenset[str]) -> Iterator[list[str]]:
    """The parts of a run of words between those without content."""
    part: list[str] = []
    for word in run:
        if folded(word) in ignored or sum(map(str.isalpha, word)) < _MIN_LETTERS:
            if part:
                yield part
            part = []
        else:
            part.append(word)
    if part:
        yield part


def _names(runs: list[list[str]]) -> dict[str, str]:
    """What each written word is counted as: folded, and a plural as its singular where the text has both."""
    written = {word for run in runs for word in run}
    known = set(map(folded, written))
    return {
        word: name[:-1] if (name := folded(word)).endswith("s") and name[:-1] in known else name for word in written
    }


def _terms(run: list[str], names: dict[str, str]) -> Iterator[tuple[Term, int]]:
    """(term, where it begins) of each sequence of words in `run` that may be a term."""
    named = [names[word] for word in run]
    for length in range(1, _MAX_TERM_WORDS + 1):
        for at in range(len(named) - length + 1):
            yield tuple(named[at : at + length]), at


def _count_terms(runs: list[list[str]], names: dict[str, str]) -> Counter[Term]:
    """How often each term occurs. Longer ones count only when they occur twice: once is a coincidence of words.

    A term that occurs twice has words that occur twice: testing that first keeps the table small.
    """
    singles = Counter(names[word] for run in runs for word in run)
    counts = Counter(
        term
        for run in runs
        for term, _ in _terms(run, names)
        if len(term) == 1 or all(singles[word] > 1 for word in term)
    )
    return Counter({term: count for term, count in counts.items() if len(term) == 1 or count > 1})


def _c_values(counts: Counter[Term]) -> dict[Term, float]:
    holders: dict[Term, list[int]] = {}
    for term, count in counts.items():
        for length in range(1, len(term)):
            for at in range(len(term) - length + 1):
                holders.setdefault(term[at : at + length], []).append(count)
    return {term: math.log2(1 + len(term)) * (count - _mean(holders.get(term, []))) for term, count in counts.items()}


def _mean(numbers: list[int]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0


def _most_written(runs: list[list[str]], names: dict[str, str], terms: frozenset[Term]) -> dict[Term, str]:
    forms: dict[Term, Counter[str]] = {term: Counter() for term in terms}
    for run in runs:
        for term, at in _terms(run, names):
            if term in forms:
                forms[term][" ".join(run[at : at + len(term)])] += 1
    return {term: min(counted, key=lambda form: (-counted[form], form)) for term, counted in forms.items()}
