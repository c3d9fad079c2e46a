"""What is wrong with data from outside, as a sentence that names the fields. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from pydantic import ValidationError

MAX_PROBLEMS: Final = 5


def problems_of(error: ValidationError, root: str = "", *, tags: Collection[str] = ()) -> list[str]:
    """``root.field: what is wrong``, for the first few; never the value, which may be a megabyte or a secret.

    ``tags`` are names by which pydantic tells the kinds of a list's items apart, which are no fields.
    """
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    # A list whose items are wrong counts as too short as well, which is no news.
    places = [problem["loc"] for problem in problems]
    problems = [
        problem
        for problem in problems
        if problem["type"] != "too_short" or not any(_lies_within(place, problem["loc"]) for place in places)
    ]
    told = [
        f"{'.'.join([*([root] if root else []), *_fields(problem['loc'], tags)])}: "
        f"{problem['msg'].removeprefix('Value error, ')}"
        for problem in problems[:MAX_PROBLEMS]
    ]
    if len(problems) > MAX_PROBLEMS:
        told.append(f"and {len(problems) - MAX_PROBLEMS} more")
    return told


def sentence_of(error: ValidationError, root: str = "", *, tags: Collection[str] = ()) -> str:
    return "; ".join(problems_of(error, root, tags=tags))


def _lies_within(place: tuple[int | str, ...], other: tuple[int | str, ...]) -> bool:
    return len(place) > len(other) and place[: len(other)] == other


def _fields(location: tuple[int | str, ...], tags: Collection[str]) -> Iterator[str]:
    before: int | str = ""
    for part in location:
        if not (isinstance(before, int) and part in tags):
            yield str(part)
        before = part
