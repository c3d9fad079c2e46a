"""What the user gives a pipeline: one JSON object, from an option, a file or words. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tailrace.cli.errors import CliError


def from_json(text: str, source: str) -> dict[str, Any]:
    """Raises CliError that names ``source``."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CliError(f'{source}: not JSON ({error}); write an object, as in \'{{"path": "a.md"}}\'') from None
    if not isinstance(given, dict):
        raise CliError(f'{source}: must be a JSON object, as in \'{{"path": "a.md"}}\'')
    return given


def from_words(words: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` words. A value that is JSON counts as such (5, true, [1,2], "5"), any other is text.

    Raises CliError.
    """
    given: dict[str, Any] = {}
    for word in words:
        key, separator, value = word.partition("=")
        if not separator or not key:
            raise CliError(f"{word!r} is not key=value; as in path=README.md")
        if key in given:
            raise CliError(f"{key!r} is given twice; for a list write {key}='[1, 2]'")
        given[key] = _value(value)
    return given


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(name: str) -> Any:
    # Python reads NaN and Infinity as numbers, JSON does not.
    raise ValueError(name)
