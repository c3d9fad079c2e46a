"""What the user gives a pipeline: one JSON object, from an option, a file or words. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isfinite
from typing import Any, NoReturn

from tailrace.cli.errors import CliError


def from_json(text: str, source: str) -> dict[str, Any]:
    """Raises CliError that names ``source``."""
    try:
        given = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise CliError(
            f'{source}: not JSON ({error}); write an object, as in \'{{"path": "/srv/reports/may.md"}}\''
        ) from None
    if not isinstance(given, dict):
        raise CliError(f'{source}: must be a JSON object, as in \'{{"path": "/srv/reports/may.md"}}\'')
    return given


def from_words(words: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` words. A value that is JSON counts as such (5, true, [1,2], "5"), any other is text.

    Raises CliError.
    """
    given: dict[str, Any] = {}
    for word in words:
        key, separator, value = word.partition("=")
        if not separator or not key:
            raise CliError(f"{word!r} is not key=value; as in path=/srv/reports/may.md")
        if key in given:
            raise CliError(f"{key!r} is given twice; for a list write {key}='[1, 2]'")
        given[key] = _value(value)
    return given


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return text


def _refuse(name: str) -> NoReturn:
    # Python reads NaN and Infinity as numbers, JSON does not.
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    return number if isfinite(number) else _refuse(digits)
