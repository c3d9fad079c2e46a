from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.workers.builtin.document.markdown import plain, read_markdown
from tailrace.workers.builtin.document.plain import tidy
from tests.patience import patient

PAGE = """\
---
title: "From the front matter"
tags: [a, b]
---
<!-- a comment
over lines -->
# A *heading* with `code` #

Text with **bold**, _emphasis_, ~~no~~ `co*d*e`, a [link](https://example.org/a_(b) "title"), [another][ref],
an ![image](x.png) and <https://example.org>. An escaped \\*star\\*, snake_case_name, 2 * 3 * 4 &amp; a<br>tag.

[ref]: https://example.org

Underlined
==========

> Quoted
> twice

* one
+ two
  - [x] done
1. first

| Head | Cell |
|------|:----:|
| a    | `b`  |

```python
def f(*args):  # not a heading
    return "**kept**"
```

***
[![badge](b.svg)](https://example.org) the end
"""


def test_markdown_becomes_what_a_reader_reads() -> None:
    title, text = read_markdown(PAGE)
    assert title == "From the front matter"
    assert (
        tidy(text)
        == """\
A heading with code

Text with bold, emphasis, no co*d*e, a link, another,
an image and https://example.org. An escaped *star*, snake_case_name, 2 * 3 * 4 & atag.

Underlined

Quoted
twice

- one
- two
  - done
1. first

Head | Cell
a | b

def f(*args):  # not a heading
    return "**kept**"

badge the end"""
    )


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("# One\n## Two", "One"),
        ("text\n\nOver\n----\n\n# One", "Over"),
        ("no heading", None),
        ("#hashtag", None),
        ("```\n# code\n```", None),
        ("---\nnot: closed\n\n# One", "One"),
        ("---\n\nJust text between rules.\n\n---\n# One", "One"),
    ],
)
def test_the_title_is_the_front_matter_s_or_the_first_heading(source: str, title: str | None) -> None:
    assert read_markdown(source)[0] == title


def test_text_between_rules_is_not_taken_for_front_matter() -> None:
    assert "Just text" in read_markdown("---\n\nJust text between rules.\n\n---\n")[1]


def test_a_fence_that_is_never_closed_hides_nothing() -> None:
    assert "rest" in read_markdown("```\nall\nthe\nrest")[1]


def test_a_shorter_fence_does_not_close_a_longer_one() -> None:
    assert read_markdown("````\n```\nx\n```\n````")[1] == "```\nx\n```"


def test_emphasis_in_emphasis_is_taken_off() -> None:
    assert plain("**bold with *more* inside** and ***both***") == "bold with more inside and both"


@given(st.text(alphabet="ab \n#*_`~[]()!<>|-=\\&;:1.\ue000\ue001", max_size=80))
def test_any_text_is_read_and_no_letter_is_lost_outside_links_and_tags(source: str) -> None:
    _, text = read_markdown(source)
    assert "\ue000" not in text
    if not set(source) & set("[<&:"):
        letters = [character for character in source if character in "ab"]
        fences = "~~~" in source or "```" in source
        assert fences or [character for character in text if character in "ab"] == letters


HOSTILE = [
    *("[", "![", "[a](", "[]", "[a]: ", "*a ", "**a ", "_a_", "~~", "`", "`a"),
    *("<", "<a ", "<!--", "> ", "- ", "|", "\\", "&", " "),
]


@pytest.mark.parametrize("unit", HOSTILE)
@pytest.mark.parametrize("ending", ["", "\n"])
def test_time_is_linear_in_the_length_whatever_the_text(unit: str, ending: str) -> None:
    source = (unit + ending) * (200_000 // len(unit + ending))
    before = time.process_time()
    read_markdown(source)
    assert time.process_time() - before < patient(5)  # 200 kB; what is quadratic takes minutes
