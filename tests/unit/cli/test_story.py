from __future__ import annotations

from typing import Any

import pytest

from tailrace.cli.client.frame import Received
from tailrace.cli.demo.story import Expectation, Story


def received(number: int, event_type: str, step: str | None = None, data: Any = None) -> Received:
    return Received(f"1-{number}", event_type, step, "", data, {})


def story(chunks: int = 2, tokens: int = 8) -> Story:
    return Story(Expectation(chunks, tokens), {"extract": 0.0, "chunk": 0.0, "analyse": 0.0, "summarize": 0.0})


def test_what_several_viewers_tell_is_believed_once() -> None:
    told = story()

    assert told.take(received(1, "token", "summarize", {"text": "One "}))
    assert not told.take(received(1, "token", "summarize", {"text": "One "}))
    assert told.take(received(2, "token", "summarize", {"text": "two"}))

    assert (told.summary, told.events, told.delivered) == ("One two", 2, 3)


def test_the_share_grows_with_chunks_and_words() -> None:
    told = story(chunks=2, tokens=8)
    shares = [told.share]
    told.take(received(1, "step.progress", "chunk", {"progress": 0.5}))
    shares.append(told.share)
    told.take(received(2, "step.progress", "chunk", {"progress": 1.0}))
    shares.append(told.share)
    told.take(received(3, "token", "summarize", {"text": "three merged words "}))
    shares.append(told.share)

    assert shares == pytest.approx([0.0, 0.1, 0.2, 0.5])


def test_the_expectation_is_corrected_by_what_the_pipeline_finds() -> None:
    told = story()
    told.take(received(1, "step.completed", "chunk", {"output": {"chunks": 30}}))
    figures = {"words": 5000, "average_sentence_words": 10.0}
    output = {"statistics": figures, "keywords": [{"phrase": "event log", "score": 1.0, "count": 2}]}
    told.take(received(2, "step.completed", "analyse", {"output": output}))

    assert told.expectation == Expectation(30, 160)
    assert told.keywords == ["event log"]


def test_a_failure_is_kept_as_its_sentence() -> None:
    told = story()
    told.take(received(1, "execution.failed", None, {"reason": "document_empty", "message": "It is empty.\x1b"}))

    assert (told.status, told.failure) == ("failed", "It is empty.\\x1b")


@pytest.mark.parametrize(
    "data", [None, 5, "text", [], {}, {"progress": "x"}, {"output": 5}, {"output": {"chunks": "x"}}]
)
@pytest.mark.parametrize("event_type", ["step.progress", "step.completed", "token", "execution.failed", "custom.any"])
@pytest.mark.parametrize("step", [None, "chunk", "analyse"])
def test_strange_data_does_no_harm(event_type: str, step: str | None, data: Any) -> None:
    told = story()
    told.take(received(1, event_type, step, data))

    assert 0.0 <= told.share <= 1.0


@pytest.mark.parametrize(
    ("size_bytes", "is_pdf"), [(0, False), (11, False), (5_000, False), (40_000, True), (10_000_000, False)]
)
def test_the_pace_is_one_the_pipeline_allows(size_bytes: int, is_pdf: bool) -> None:
    assert 1 <= Expectation.of_file(size_bytes, is_pdf=is_pdf).pace_ms(8.0) <= 1000


def test_an_ordinary_document_lasts_about_as_long_as_wanted() -> None:
    expected = Expectation.of_file(12_000, is_pdf=False)

    assert 6.0 < expected.pace_ms(8.0) / 1000 * (expected.chunks + expected.tokens) < 10.0
