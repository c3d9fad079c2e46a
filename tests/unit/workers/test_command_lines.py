"""The splitter: whatever the chunks, no byte is lost and no line is longer than allowed."""

from __future__ import annotations

import re
from collections.abc import Iterable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.workers.command.lines import OutputLine, Splitter, fraction_of

OUTPUT = st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"a", b"bc", "é€😀".encode(), b"\xff"]), max_size=40).map(
    b"".join
)


def split(chunks: Iterable[bytes], max_line_bytes: int = 1000) -> list[OutputLine]:
    """Without the states of lines that were written over."""
    splitter = Splitter("stdout", max_line_bytes)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]
    return [line for line in (*lines, *splitter.close()) if not line.overwritten]


def left_of(line: bytes) -> bytes:
    """What stands in a line at its end."""
    return next((part for part in reversed(line.split(b"\r")) if part), b"")


def texts(chunks: Iterable[bytes]) -> list[str]:
    return [line.text for line in split(chunks)]


def json_bytes(text: str) -> int:
    """Without the quotation marks."""
    return len(orjson.dumps(text)) - 2


def chunked(output: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({min(cut, len(output)) for cut in cuts} | {len(output)})
    return [output[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@given(output=OUTPUT, cuts=st.lists(st.integers(0, 100)))
def test_lines_do_not_depend_on_how_the_bytes_were_chunked(output: bytes, cuts: list[int]) -> None:
    expected = [left_of(part).decode("utf-8", "replace") for part in re.split(rb"\r\n|\n", output)]
    if not expected[-1]:
        del expected[-1]
    assert texts(chunked(output, cuts)) == expected


@given(output=OUTPUT, cuts=st.lists(st.integers(0, 100)), limit=st.integers(12, 20))
def test_a_long_line_is_given_out_in_parts_that_make_up_the_whole(output: bytes, cuts: list[int], limit: int) -> None:
    lines = split(chunked(output, cuts), limit)
    whole = "".join(line.text + ("" if line.truncated else "\n") for line in lines)
    expected = "".join(line.text + "\n" for line in split([output], 10_000))
    if any(line.count(b"\r") for line in re.split(rb"\r\n|\n", output)):
        # Of a long line that is written over, its first parts have been given out already.
        return
    assert whole.replace("\ufffd", "") == expected.replace("\ufffd", "")


@given(text=st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])), limit=st.integers(12, 20))
def test_a_cut_never_falls_into_a_character(text: str, limit: int) -> None:
    lines = split([text.encode()], limit)
    assert "".join(line.text for line in lines) == text
    assert all(json_bytes(line.text) <= limit for line in lines)
    assert [line.truncated for line in lines] == [True] * (len(lines) - 1) + [False] * bool(lines)


def test_a_line_of_exactly_the_limit_is_not_cut() -> None:
    assert split([b"abcdefghijkl\nabcdefghijklm\n"], 12) == [
        OutputLine("stdout", "abcdefghijkl"),
        OutputLine("stdout", "abcdefghijkl", truncated=True),
        OutputLine("stdout", "m"),
    ]


def test_a_progress_bar_is_seen_at_each_carriage_return_and_is_one_line_when_it_ends() -> None:
    splitter = Splitter("stderr", 100)
    assert list(splitter.feed(b"10%\r")) == [OutputLine("stderr", "10%", overwritten=True)]
    assert list(splitter.feed(b"20%\r")) == [OutputLine("stderr", "20%", overwritten=True)]
    assert list(splitter.feed(b"\nafter")) == [OutputLine("stderr", "20%")]
    assert list(splitter.feed(b"\r")) == [OutputLine("stderr", "after", overwritten=True)]
    assert list(splitter.close()) == [OutputLine("stderr", "after")]


@pytest.mark.parametrize(
    ("text", "fraction"),
    [
        ("Downloading  45%|####      | 9/20 [00:01<00:02]", 0.45),
        ("a: 12.5 % b: 100%", 1.0),
        ("0%", 0.0),
        ("101%", None),
        ("1,000%", None),
        ("9/20", None),
        ("", None),
        ("%", None),
    ],
)
def test_a_percentage_is_recognised(text: str, fraction: float | None) -> None:
    assert fraction_of(text) == fraction


def test_a_line_end_of_two_bytes_that_arrives_in_two_chunks_is_one() -> None:
    assert texts([b"a\r", b"\nb"]) == ["a", "b"]


def test_empty_lines_are_lines() -> None:
    assert texts([b"\n\na\n"]) == ["", "", "a"]


def test_memory_is_bounded_on_an_endless_line() -> None:
    splitter = Splitter("stdout", 100)
    for _ in range(50):
        for _line in splitter.feed(b"x" * 1000):
            pass
        assert len(splitter._held) <= 100


def test_a_limit_below_one_character_is_refused() -> None:
    with pytest.raises(ValueError, match="max_line_bytes is 11: it must be 12 or more"):
        Splitter("stdout", 11)


@given(
    output=st.lists(
        st.sampled_from([b"\0", b'"', b"\t", b"\x1b", b"\x7f", b"a" * 9, "é€😀".encode(), b"\xff", b"\xf0\x9f"])
    ).map(b"".join),
    cuts=st.lists(st.integers(0, 100)),
    limit=st.integers(12, 60),
)
def test_attack_73_no_line_is_longer_as_json_than_allowed_and_nothing_is_lost(
    output: bytes, cuts: list[int], limit: int
) -> None:
    lines = split(chunked(output, cuts), limit)
    assert all(json_bytes(line.text) <= limit for line in lines)
    whole = "".join(line.text for line in lines)
    assert whole.replace("\ufffd", "") == output.decode("utf-8", "replace").replace("\ufffd", "")


def test_attack_73_a_line_is_not_cut_before_its_json_reaches_the_limit() -> None:
    whole = '"' * 500 + "é" * 400
    assert split([whole.encode()], json_bytes(whole)) == [OutputLine("stdout", whole)]
    first, second = split([b"\0" * 1000], 3000)
    assert (json_bytes(first.text), len(second.text)) == (3000, 500)
