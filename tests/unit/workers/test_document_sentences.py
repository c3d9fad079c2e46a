from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.workers.builtin.document.sentences import MAX_SENTENCE_CHARACTERS, paragraphs, sentences
from tests.patience import patient

TEXT = st.text(alphabet="abZ .!?…\n\t-1)\"'。", max_size=200)


def found(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


@given(TEXT)
def test_sentences_cover_all_but_white_space_in_order(text: str) -> None:
    assert "".join("".join(found(text)).split()) == "".join(text.split())
    spans = list(sentences(text))
    assert spans == sorted(spans)
    assert all(text[start:end] == text[start:end].strip() != "" for start, end in spans)


@given(TEXT)
def test_no_sentence_crosses_a_paragraph(text: str) -> None:
    borders = list(paragraphs(text))
    assert all(any(first <= start and end <= last for first, last in borders) for start, end in sentences(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. A. Smith paid, e.g. on No. 5. He left.", ["Dr. A. Smith paid, e.g. on No. 5.", "He left."]),
        ("He said no. Then he left.", ["He said no.", "Then he left."]),
        ("Apples, pears, etc. are fruit. So what?", ["Apples, pears, etc. are fruit.", "So what?"]),
        ('"Is it?" she asked. (It is.) Yes…', ['"Is it?" she asked.', "(It is.)", "Yes…"]),
        ("Wrapped\nin lines. And\non.", ["Wrapped\nin lines.", "And\non."]),
        ("A heading\n\nIts text", ["A heading", "Its text"]),
        ("List:\n- one\n- two. Three.\n2. four", ["List:", "- one", "- two.", "Three.", "2. four"]),
        ("Z.B. im Mai, vgl. Abb. 2. Das war es.", ["Z.B. im Mai, vgl. Abb. 2.", "Das war es."]),
        ("これは文です。次の文！", ["これは文です。", "次の文！"]),  # noqa: RUF001 - full-width marks are the point
        ("See example.org/a.b or v1.2.3 now.", ["See example.org/a.b or v1.2.3 now."]),
        ("", []),
        (" \n\n ", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str]) -> None:
    assert found(text) == expected


def test_a_text_without_punctuation_is_cut_between_words() -> None:
    parts = found("word " * 1000)
    assert all(len(part) <= MAX_SENTENCE_CHARACTERS for part in parts)
    assert " ".join(parts).split() == ["word"] * 1000


def test_a_word_longer_than_a_sentence_is_kept_whole() -> None:
    assert found("a " + "x" * 5000 + " b") == ["a", "x" * 5000, "b"]


@pytest.mark.parametrize("unit", [".", ". ", "a.", "\n", " ", "\n ", "a\n- ", "!\"' ", "Dr. ", "1. ", "…", "x"])
def test_time_is_linear_in_the_length_whatever_the_text(unit: str) -> None:
    text = unit * (200_000 // len(unit))
    before = time.process_time()
    for _ in sentences(text):
        pass
    assert time.process_time() - before < patient(5)
