"""``make examples``: each application of examples/ runs its story; and its page shows what is printed."""

from __future__ import annotations

from typing import Final

import pytest

from tests.e2e.transcripts import ROOT, Printed, printed, run, shape_of


def command_of(story: str) -> str:
    return f"-m examples.{story}.story"


STORIES: Final = sorted(path.parent.name for path in (ROOT / "examples").glob("*/story.py"))
PRINTED: Final = list(printed())
OTHERS: Final = [each for each in PRINTED if each.command not in map(command_of, STORIES)]


@pytest.mark.parametrize("story", STORIES)
def test_a_story_passes_and_prints_one_line_which_its_page_shows(story: str) -> None:
    output = run(command_of(story))
    assert output.startswith(f"{story}: passed")
    assert output.count("\n") == 1
    shown = [each.text for each in PRINTED if each.command == command_of(story)]
    assert [shape_of(text) for text in shown] == [shape_of(output)]


@pytest.mark.parametrize("each", OTHERS, ids=lambda each: each.command)
def test_a_page_shows_what_is_said(each: Printed) -> None:
    assert shape_of(each.text) == shape_of(run(each.command))
