"""Figures, keywords, summaries and tokens of a text."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.workers.builtin.document.chunk import chunk
from tailrace.workers.builtin.document.keywords import keywords
from tailrace.workers.builtin.document.statistics import Statistics, statistics
from tailrace.workers.builtin.document.summary import summarize
from tailrace.workers.builtin.document.tokens import tokens
from tailrace.workers.builtin.document.words import words
from tests.patience import patient

ENGLISH = """\
The lighthouse

The old lighthouse keeper lit the lamp every evening. A lighthouse keeper needs patience, he used to say. The lamp of
the lighthouse was seen by ships far away. His dog slept.

Ships passed the lighthouse in storms, and the keeper wrote their names into a book. Nobody read the book. When the
keeper grew old, a machine lit the lamp, but the ships still greeted the lighthouse keeper.
"""
GERMAN = """\
Der Leuchtturm stand auf der Insel. Die Fischer sahen den Leuchtturm und die Insel. Es war ein Sturm und das Meer war
wild. Die Insel hat einen Hafen, und der Hafen hat einen Leuchtturm.
"""
ANY = st.text(alphabet="abcZ .!?\n\t-1'\u3002", max_size=300)


@given(st.text())
def test_tokens_put_together_are_the_text(text: str) -> None:
    pieces = list(tokens(text))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= 128 for piece in pieces)


def test_a_token_is_a_word_with_the_space_after_it() -> None:
    assert list(tokens(" One two.\n Three")) == [" ", "One ", "two.\n ", "Three"]


def test_statistics_count_what_a_reader_counts() -> None:
    text = "It's a well-known fact. Is it?\n\nIt is: 3.5 or so."
    assert statistics(text) == Statistics(
        characters=len(text),
        words=11,
        sentences=3,
        paragraphs=2,
        unique_words=9,
        average_sentence_words=3.7,
        reading_minutes=0.0,
    )


def test_an_empty_text_has_statistics() -> None:
    assert statistics("") == Statistics(0, 0, 0, 0, 0, 0.0, 0.0)


def test_keywords_put_a_frequent_phrase_before_its_words() -> None:
    phrases = [keyword.phrase for keyword in keywords(ENGLISH, 4)]
    assert phrases[0] == "lighthouse keeper"
    assert {"lamp", "ships"} <= set(phrases)


def test_keywords_leave_out_the_words_that_say_nothing_in_the_language_of_the_text() -> None:
    german = {keyword.phrase for keyword in keywords(GERMAN)}
    assert {"Leuchtturm", "Insel", "Hafen"} <= german
    assert not {"die", "Die", "und", "war", "hat"} & german
    assert "die" in {keyword.phrase for keyword in keywords("They roll a die. The die is cast. A die has six sides.")}


def test_keywords_count_a_plural_with_its_singular() -> None:
    best = keywords("A stream. Streams are read. Many a stream.", 1)[0]
    assert (best.phrase, best.count) == ("stream", 3)


@given(text=ANY, top=st.integers(1, 20))
def test_keywords_are_bounded_ordered_and_always_the_same(text: str, top: int) -> None:
    found = keywords(text, top)
    assert found == keywords(text, top)
    assert len(found) <= top
    assert [keyword.score for keyword in found] == sorted((keyword.score for keyword in found), reverse=True)
    assert len({keyword.phrase for keyword in found}) == len(found)


def test_a_summary_is_made_of_sentences_of_the_text_in_their_order() -> None:
    summary = summarize(ENGLISH, sentences=3)
    collapsed = " ".join(ENGLISH.split())
    places = [collapsed.index(sentence) for sentence in summary]
    assert len(summary) == 3
    assert places == sorted(places)
    assert all("lighthouse" in sentence for sentence in summary)
    assert "The lighthouse" not in summary  # the heading


def test_a_summary_does_not_say_the_same_twice() -> None:
    text = "Storms sink ships at sea. " * 5 + "A harbour keeps all boats dry. Cats sleep."
    assert summarize(text, sentences=2) == ["Storms sink ships at sea.", "A harbour keeps all boats dry."]


def test_a_summary_skips_tables_and_list_marks() -> None:
    text = "- The tide turns at noon today.\n- tide | noon | tide | noon | tide."
    assert summarize(text, sentences=1) == ["The tide turns at noon today."]


@given(text=ANY, sentences=st.integers(1, 8), max_words=st.integers(1, 40))
def test_a_summary_keeps_its_limits_and_is_always_the_same(text: str, sentences: int, max_words: int) -> None:
    summary = summarize(text, sentences=sentences, max_words=max_words)
    assert summary == summarize(text, sentences=sentences, max_words=max_words)
    assert len(summary) <= sentences
    assert sum(len(words(sentence)) for sentence in summary) <= max_words
    assert bool(summary) == bool(words(text))


def test_a_sentence_that_is_too_long_is_given_as_far_as_it_may_be() -> None:
    assert summarize("one two three four five", max_words=3) == ["one two three …"]


def test_limits_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="sentences is 0"):
        summarize("x", sentences=0)
    with pytest.raises(ValueError, match="max_words is 0"):
        summarize("x", max_words=0)
    with pytest.raises(ValueError, match="top is 0"):
        keywords("x", 0)


def test_a_book_of_five_megabytes_is_done_in_seconds() -> None:
    dice = random.Random(5)
    vocabulary = ["".join(dice.choices("abcdefghij", k=dice.randint(2, 9))) for _ in range(50_000)]
    weights = [1 / rank for rank in range(1, len(vocabulary) + 1)]
    drawn = iter(dice.choices(vocabulary, weights, k=800_000))
    text = ". ".join(" ".join(line).capitalize() for line in zip(*[drawn] * 16, strict=False))
    text += "." + " ".join(dice.choices(vocabulary, k=(5_000_000 - len(text)) // 7))
    assert len(text) > 4_000_000
    before = time.process_time()
    assert chunk(text)
    assert statistics(text).words > 500_000
    assert len(keywords(text)) == 10
    assert len(summarize(text)) == 5
    seconds = time.process_time() - before
    print(f"{len(text) / 1e6:.1f} MB: {seconds:.1f} s")
    assert seconds < patient(20)  # four steps together; about six seconds on two slow cores
