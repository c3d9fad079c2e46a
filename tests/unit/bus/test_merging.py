"""Adjacent tokens become one entry, whose text is theirs to the letter."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.entry import Entry
from tailrace.bus.model.merging import MAX_MERGED_BYTES, merged, runs_of_tokens


def entry(number: int, raw: bytes, *, kind: str = "token", step: str | None = None, **more: Any) -> Entry:
    return Entry(Cursor(number, 0), kind, step, f"t{number}", raw, **more)


def tokens(*raw: bytes) -> list[Entry]:
    return [entry(number, each) for number, each in enumerate(raw, 1)]


def together(entries: list[Entry]) -> list[Entry]:
    return [merged(run) for run in runs_of_tokens(entries)]


@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.booleans(), st.sampled_from("ab"))))
def test_the_text_of_each_step_is_the_same_to_the_letter(pieces: list[tuple[str, bool, str]]) -> None:
    entries = [
        entry(number, json.dumps({"text": text}, ensure_ascii=ascii_only).encode(), step=step)
        for number, (text, ascii_only, step) in enumerate(pieces, 1)
    ]
    told = together(entries)
    for step in "ab":
        assert "".join(each.data["text"] for each in told if each.step == step) == "".join(
            text for text, _, of in pieces if of == step
        )
    assert [each.cursor for each in told] == sorted(each.cursor for each in told)
    assert not entries or told[-1].cursor == entries[-1].cursor


def test_a_run_has_the_id_and_the_time_of_its_last_token() -> None:
    (one,) = together(tokens(b'{"text":"a"}', b'{ "text" : "\\n\\"b\\u00e9" }'))
    assert one == entry(2, b'{"text":"a\\n\\"b\\u00e9"}')


@pytest.mark.parametrize(
    "between",
    [
        entry(2, b'{"text":"b"}', kind="custom.text"),
        entry(2, b'{"text":"b"}', step="other"),
        entry(2, b'{"text":"b"}', raw_meta=b'{"a":1}'),
        entry(2, b'{"text":"b","role":"tool"}'),
        entry(2, b'{"text":"YQ=="}', encoding="base64"),
        entry(2, b'{"text":1}'),
        entry(2, b'"b"'),
    ],
    ids=["type", "step", "meta", "members", "bytes", "number", "text"],
)
def test_what_says_more_than_text_stands_by_itself(between: Entry) -> None:
    before, after = entry(1, b'{"text":"a"}'), entry(3, b'{"text":"c"}')
    assert together([before, between, after]) == [before, between, after]


def test_tokens_of_equal_meta_are_one_with_it() -> None:
    one, two, other = (
        entry(number, b'{"text":"a"}', raw_meta=meta)
        for number, meta in enumerate((b'{"node":"x"}', b'{"node":"x"}', b'{"node":"y"}'), 1)
    )
    assert together([one, two, other]) == [entry(2, b'{"text":"aa"}', raw_meta=b'{"node":"x"}'), other]


def test_halves_of_a_character_are_not_joined_into_one() -> None:
    halves = tokens(b'{"text":"\\ud83d"}', b'{"text":"\\ude00"}')
    assert together(halves) == halves


def test_a_merged_token_is_bounded() -> None:
    text = b"x" * 1000
    told = together(tokens(*[b'{"text":"%b"}' % text] * 10))
    assert [len(each.data["text"]) for each in told] == [4000, 4000, 2000]
    huge = entry(1, b'{"text":"%b"}' % (b"x" * (MAX_MERGED_BYTES + 1)))
    assert together([huge, *tokens(b'{"text":"a"}')])[0] is huge
