"""Numbers and text that JSON cannot carry, or that its readers would round, and where in a value they stand. Pure."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from enum import Enum
from typing import Any, Final

import orjson

from tailrace.bus.errors import InvalidEventError

_LOWEST: Final = -(2**63)
_HIGHEST: Final = 2**64 - 1
_MANY_DIGITS = re.compile(rb"[0-9]{19}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_HALF: Final = (
    "cannot be written as JSON: it has half a surrogate pair; join the halves, or encode it with errors='replace'"
)
# Deeper than JSON may nest here, and less than Python may call.
_MAX_DEPTH: Final = 300
# Enough digits to be out of bounds, and never more than ``int`` takes.
_ENOUGH_DIGITS: Final = 40


def check_numbers(value: Any, *, field: str = "") -> None:
    """Raises InvalidEventError, with the path in the value as its field.

    For NaN and infinities, integers of more than 64 bits, and halves of surrogate pairs.
    """
    try:
        found = _first_unsafe(value, 0)
    except RecursionError:
        # A circle, say: no writer of JSON or MessagePack takes that either, and says so.
        return
    if found is not None:
        path, detail = found
        raise InvalidEventError((field + path).removeprefix("."), detail)


def load_json(raw: bytes | str) -> Any:
    """Read JSON without rounding an integer. Raises orjson.JSONDecodeError; InvalidEventError as ``check_numbers``."""
    value = orjson.loads(raw)
    if _MANY_DIGITS.search(raw.encode() if isinstance(raw, str) else raw):
        try:
            check_numbers(json.loads(raw, parse_int=lambda digits: int(digits[:_ENOUGH_DIGITS])))
        except RecursionError:
            raise InvalidEventError("body", "is nested too deep for its numbers to be checked") from None
    return value


def _first_unsafe(value: Any, depth: int) -> tuple[str, str] | None:
    if value is None or isinstance(value, bytes):
        return None
    if isinstance(value, str):
        return ("", _HALF) if _SURROGATE.search(value) else None
    if depth > _MAX_DEPTH:
        raise RecursionError
    if isinstance(value, float):
        return None if math.isfinite(value) else ("", f"is {value}, which JSON does not have; send null or a string")
    if isinstance(value, int):
        fits = _LOWEST <= value <= _HIGHEST
        return None if fits else ("", "is an integer of more than 64 bits, which readers would round; send a string")
    for name, member in _members(value):
        found = _first_unsafe(member, depth + 1)
        if found is not None:
            return f".{name}{found[0]}" if name != "" else found[0], found[1]
    return None


def _members(value: Any) -> Any:
    if isinstance(value, dict):
        return value.items()
    if isinstance(value, (list, tuple)):
        return enumerate(value)
    if isinstance(value, (set, frozenset)):
        return enumerate(sorted(value, key=repr))
    if isinstance(value, Enum):
        return [("", value.value)]
    if dataclasses.is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    dump = getattr(value, "model_dump", None)
    return [("", dump())] if callable(dump) else ()
