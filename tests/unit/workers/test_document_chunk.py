from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.workers.builtin.document.chunk import Chunk, chunk

TEXT = st.text(alphabet="abZ .!?\n\t-1", max_size=400)
LIMITS = st.integers(1, 12).flatmap(lambda most: st.tuples(st.just(most), st.integers(0, most - 1)))


@given(text=TEXT, limits=LIMITS)
def test_chunks_cover_every_word_in_order(text: str, limits: tuple[int, int]) -> None:
    max_words, overlap_words = limits
    chunks = chunk(text, max_words=max_words, overlap_words=overlap_words)
    covered: list[str] = []
    end = 0
    for each in chunks:
        # Between two chunks there is white space, or an overlap.
        assert not text[end : each.start].strip()
        covered += text[max(end, each.start) : each.end].split()
        end = each.end
    assert not text[end:].strip()
    assert covered == text.split()


@given(text=TEXT, limits=LIMITS)
def test_a_chunk_is_a_piece_of_the_text_within_the_limits(text: str, limits: tuple[int, int]) -> None:
    max_words, overlap_words = limits
    chunks = chunk(text, max_words=max_words, overlap_words=overlap_words)
    for index, each in enumerate(chunks):
        assert each.index == index
        assert text[each.start : each.end] == each.text == each.text.strip()
        assert each.words == len(each.text.split()) <= max_words
    for former, latter in pairwise(chunks):
        assert former.end < latter.end
        assert len(text[latter.start : former.end].split()) <= overlap_words


def test_a_chunk_ends_with_a_sentence_where_it_can() -> None:
    chunks = chunk("One two three. Four five six. Seven eight.", max_words=5, overlap_words=0)
    assert [each.text for each in chunks] == ["One two three.", "Four five six. Seven eight."]


def test_a_well_filled_chunk_ends_with_its_paragraph() -> None:
    chunks = chunk("One two three four.\n\nFive.\n\nSix.", max_words=5, overlap_words=0)
    assert [each.text for each in chunks] == ["One two three four.", "Five.\n\nSix."]


def test_a_chunk_begins_with_the_last_words_of_the_one_before() -> None:
    chunks = chunk("One two three. Four five six.", max_words=5, overlap_words=2)
    assert chunks == [Chunk(0, "One two three.", 3, 0, 14), Chunk(1, "two three. Four five six.", 5, 4, 29)]


def test_text_of_one_script_without_spaces_is_chunked_by_its_sentences() -> None:
    chunks = chunk("これは文です。" * 10, max_words=4, overlap_words=0)
    assert "".join(each.text for each in chunks) == "これは文です。" * 10
    assert len(chunks) == 3


def test_there_is_no_chunk_in_no_text() -> None:
    assert chunk(" \n ") == []


@pytest.mark.parametrize(("max_words", "overlap_words"), [(0, 0), (5, 5), (5, -1)])
def test_limits_that_make_no_sense_are_refused(max_words: int, overlap_words: int) -> None:
    with pytest.raises(ValueError, match="it must be"):
        chunk("x", max_words=max_words, overlap_words=overlap_words)
