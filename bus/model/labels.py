"""Labels: whose an execution is, and what it belongs to, in words of the application. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from tailrace.bus.errors import InvalidInputError

MAX_LABELS: Final = 8
MAX_VALUE_CHARS: Final = 128
# What is stored of them at most: names and values in UTF-8, and the marks of JSON.
MAX_LABEL_BYTES: Final = MAX_LABELS * (64 + 4 * MAX_VALUE_CHARS + 6) + 2
_NAME: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}", re.ASCII)

Labels = Mapping[str, str]


def check_labels(labels: Any, *, field: str = "labels") -> dict[str, str]:
    """Return them when they can be used. Raises InvalidInputError that names the label."""
    if not isinstance(labels, Mapping):
        raise InvalidInputError(field, f"is an object of names and texts, not {type(labels).__name__}")
    if len(labels) > MAX_LABELS:
        raise InvalidInputError(field, f"has {len(labels)} labels, the limit is {MAX_LABELS}")
    return {check_label_name(name, field=field): _check_value(name, labels[name], field) for name in sorted(labels)}


def check_label_name(name: object, *, field: str = "labels") -> str:
    """Raises InvalidInputError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        detail = (
            f"{repr(name)[:80]} is not a label's name; expected 1 to 64 lower-case letters, digits, '_', '.' or '-'"
        )
        raise InvalidInputError(field, detail)
    return name


def _check_value(name: str, value: object, field: str) -> str:
    if not isinstance(value, str) or not value or len(value) > MAX_VALUE_CHARS or not value.isprintable():
        raise InvalidInputError(f"{field}.{name}", f"must be text of 1 to {MAX_VALUE_CHARS} printable characters")
    return value


def parse_label(text: str, *, field: str = "label") -> tuple[str, str]:
    """Read ``name:value``, as a query has it. Raises InvalidInputError."""
    name, colon, value = text.partition(":")
    if not colon:
        raise InvalidInputError(field, f"{text[:64]!r} is not of the form 'name:value'")
    return check_label_name(name, field=field), _check_value(name, value, field)


def labels_text(labels: Labels) -> str:
    """As they stand in the state; '' for none."""
    return orjson.dumps(dict(labels), option=orjson.OPT_SORT_KEYS).decode() if labels else ""


def read_labels(raw: bytes | None) -> dict[str, str]:
    """Read what ``labels_text`` wrote; what a stranger broke counts as absent."""
    if not raw or len(raw) > MAX_LABEL_BYTES:
        return {}
    try:
        return check_labels(orjson.loads(raw))
    except ValueError:
        return {}


def label_digest(name: str, value: str) -> str:
    """What a key is called that has to do with one label: values may be of any letters."""
    return hashlib.sha256(f"{name}:{value}".encode()).hexdigest()[:32]
