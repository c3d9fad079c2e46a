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

from tailrace.workers.builtin.document.words import folded, stopwords, words

_MAX_TERM_WORDS = 3
_SEPARATOR = re.compile(r"[^\w\s'’-]|\s[-'’]|[-'’]\s|\n\s*\n")
_MIN_LETTERS = 2
# What is longer is data (a key, an encoded image), and must not make a keyword too large for an event.
_MAX_WORD_CHARACTERS = 100


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
    # One object for each distinct word: a book repeats them a thousand times.
    same: dict[str, str] = {}
    runs = [[same.setdefault(word, word) for word in run] for part in _SEPARATOR.split(text) if (run := words(part))]
    silent = _silent(runs)
    runs = [part for run in runs for part in _content(run, silent)]
    names = _names(runs)
    counts = _count_terms(runs, names)
    scores = _c_values(counts)
    best = sorted(scores, key=lambda term: (-scores[term], term))[:top]
    written = _most_written(runs, names, best)
    return [Keyword(written[term], round(scores[term], 3), counts[term]) for term in best if scores[term] > 0]


def _silent(runs: list[list[str]]) -> frozenset[str]:
    """The words, as they are written, that say nothing."""
    ignored = stopwords(folded(word) for run in runs for word in run)
    written = {word for run in runs for word in run}
    return frozenset(
        word
        for word in written
        if folded(word) in ignored or len(word) > _MAX_WORD_CHARACTERS or sum(map(str.isalpha, word)) < _MIN_LETTERS
    )


def _content(run: list[str], silent: frozenset[str]) -> Iterator[list[str]]:
    """The parts of a run of words between those without content."""
    part: list[str] = []
    for word in run:
        if word not in silent:
            part.append(word)
        elif part:
            yield part
            part = []
    if part:
        yield part


def _names(runs: list[list[str]]) -> dict[str, str]:
    """What each written word is counted as: folded, and a plural as its singular where the text has both."""
    folds = {word: folded(word) for run in runs for word in run}
    known = set(folds.values())
    return {word: _singular(name, known) for word, name in folds.items()}


def _singular(name: str, known: set[str]) -> str:
    return name[:-1] if name.endswith("s") and name[:-1] in known else name


def _count_terms(runs: list[list[str]], names: dict[str, str]) -> Counter[Term]:
    """How often each term occurs. Longer ones count only when they occur twice: once is a coincidence of words.

    A term that occurs twice has words that occur twice: testing that first keeps the table small.
    """
    named = [[names[word] for word in run] for run in runs]
    singles = Counter(name for run in named for name in run)
    frequent = {name for name, count in singles.items() if count > 1}
    longer: Counter[Term] = Counter()
    for run in named:
        for at, first in enumerate(run):
            if first in frequent:
                for end in range(at + 1, min(at + _MAX_TERM_WORDS, len(run))):
                    if run[end] not in frequent:
                        break
                    longer[tuple(run[at : end + 1])] += 1
    counts: Counter[Term] = Counter({(name,): count for name, count in singles.items()})
    counts.update({term: count for term, count in longer.items() if count > 1})
    return counts


def _c_values(counts: Counter[Term]) -> dict[Term, float]:
    holders: dict[Term, list[int]] = {}
    for term, count in counts.items():
        for length in range(1, len(term)):
            for at in range(len(term) - length + 1):
                holders.setdefault(term[at : at + length], []).append(count)
    return {term: math.log2(1 + len(term)) * (count - _mean(holders.get(term, []))) for term, count in counts.items()}


def _mean(numbers: list[int]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0


def _most_written(runs: list[list[str]], names: dict[str, str], terms: list[Term]) -> dict[Term, str]:
    beginnings: dict[str, list[Term]] = {}
    for term in terms:
        beginnings.setdefault(term[0], []).append(term)
    forms: dict[Term, Counter[str]] = {term: Counter() for term in terms}
    for run in runs:
        for at, word in enumerate(run):
            for term in beginnings.get(names[word], ()):
                written = run[at : at + len(term)]
                if tuple(names[each] for each in written) == term:
                    forms[term][" ".join(written)] += 1
    return {
        term: min(counted, key=lambda form: (-counted[form], form != form.lower(), form))
        for term, counted in forms.items()
    }
