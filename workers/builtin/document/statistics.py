from __future__ import annotations

from dataclasses import dataclass

from tailrace.workers.builtin.document.sentences import paragraphs, sentences
from tailrace.workers.builtin.document.words import folded, words

# M. Brysbaert, "How many words do we read per minute?", Journal of Memory and Language 109 (2019)
WORDS_READ_A_MINUTE = 238


@dataclass(frozen=True, slots=True)
class Statistics:
    characters: int
    words: int
    sentences: int
    paragraphs: int
    unique_words: int
    average_sentence_words: float
    reading_minutes: float


def statistics(text: str) -> Statistics:
    found = words(text)
    sentence_count = sum(1 for _ in sentences(text))
    return Statistics(
        characters=len(text),
        words=len(found),
        sentences=sentence_count,
        paragraphs=sum(1 for _ in paragraphs(text)),
        unique_words=len({folded(word) for word in found}),
        average_sentence_words=round(len(found) / sentence_count, 1) if sentence_count else 0.0,
        reading_minutes=round(len(found) / WORDS_READ_A_MINUTE, 1),
    )
