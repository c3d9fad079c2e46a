"""docs/python.md says all that is public, and what the source says of it."""

from __future__ import annotations

import re
from pathlib import Path

import tailrace
from tailrace import testing
from tests.unit.python_reference import reference

PAGE = (Path(__file__).parents[2] / "docs/python.md").read_text()


def test_the_page_is_what_the_docstrings_say() -> None:
    assert reference() == PAGE, "write it anew: python -m tests.unit.python_reference > docs/python.md"


def test_every_public_name_is_on_the_page() -> None:
    headings = set(re.findall(r"^### (\w+)$", PAGE, re.MULTILINE))
    errors = set(re.findall(r"^\| `(\w+Error)` \|", PAGE, re.MULTILINE))
    assert headings | errors == {*tailrace.__all__, *testing.__all__}
    assert not headings & errors


def test_everything_on_the_page_has_something_said_of_it() -> None:
    bare = re.findall(r"^\*\*`(.+?)`\*\*\n\n(?=\*\*`|###|$)", PAGE, re.MULTILINE)
    # What makes a class is said of the class.
    assert [each for each in bare if not each[0].isupper() or "." in each.split("(")[0]] == []
    assert re.findall(r"^\| `\w+Error` \| [^|]+ \|  \|$", PAGE, re.MULTILINE) == []
    assert re.findall(r"^\| `\w+` \| `.+` \|  \|$", PAGE, re.MULTILINE) == []
