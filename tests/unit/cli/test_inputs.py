from __future__ import annotations

from typing import Any

import pytest

from tailrace.cli.actions.inputs import from_json, from_words
from tailrace.cli.errors import CliError
from tailrace.cli.exit_codes import ExitCode


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("k=text", "text"),
        ("k=", ""),
        ("k=a=b", "a=b"),
        ("k=5", 5),
        ("k=0.5", 0.5),
        ("k=true", True),
        ("k=null", None),
        ('k="5"', "5"),
        ("k=[1,2]", [1, 2]),
        ('k={"a":1}', {"a": 1}),
        ("k=NaN", "NaN"),
        ("k=/a/b c.md", "/a/b c.md"),
        ("k={broken", "{broken"),
    ],
)
def test_a_word_is_read_as_json_when_it_is_json(word: str, value: Any) -> None:
    assert from_words([word]) == {"k": value}


@pytest.mark.parametrize("word", ["text", "=value", ""])
def test_a_word_without_a_key_is_refused(word: str) -> None:
    with pytest.raises(CliError, match="is not key=value") as refusal:
        from_words([word])
    assert refusal.value.code is ExitCode.USAGE


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(CliError, match="'k' is given twice"):
        from_words(["k=1", "k=2"])


@pytest.mark.parametrize("text", ["", "{", "[1]", '"text"', "5", "[" * 100_000])
def test_an_input_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(CliError, match=r"^--input: "):
        from_json(text, "--input")


def test_an_object_is_taken_as_it_is() -> None:
    assert from_json('{"path": "a.md", "n": [1]}', "--input") == {"path": "a.md", "n": [1]}
