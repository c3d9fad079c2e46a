"""What is wrong with data from outside, as a sentence that names the fields. Pure."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

MAX_PROBLEMS: Final = 5


def problems_of(error: ValidationError, root: str = "") -> list[str]:
    """``root.field: what is wrong``, for the first few; never the value, which may be a megabyte or a secret."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    told = [
        f"{'.'.join(str(part) for part in (root, *problem['loc']) if part != '')}: "
        f"{problem['msg'].removeprefix('Value error, ')}"
        for problem in problems[:MAX_PROBLEMS]
    ]
    if len(problems) > MAX_PROBLEMS:
        told.append(f"and {len(problems) - MAX_PROBLEMS} more")
    return told


def sentence_of(error: ValidationError, root: str = "") -> str:
    return "; ".join(problems_of(error, root))
