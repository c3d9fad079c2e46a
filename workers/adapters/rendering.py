"""Values of others' libraries as JSON can carry them."""

from __future__ import annotations

import base64
import math
from dataclasses import fields, is_dataclass
from datetime import date, time
from enum import Enum
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

_MAX_DEPTH: Final = 50
_MAX_INTEGER: Final = 2**63
_MAX_SHOWN: Final = 200


def rendered(value: Any, depth: int = 0) -> Any:
    """Models, messages, dataclasses and named tuples become objects; bytes base64; what has no form ``unrendered``."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return rendered(value.value, depth)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value) if -_MAX_INTEGER <= value < _MAX_INTEGER else str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, UUID | PurePath):
        return str(value)
    if isinstance(value, BaseException):
        return {"error": type(value).__name__, "message": str(value)}
    if depth < _MAX_DEPTH and (parts := _parts(value)) is not None:
        return _rendered_parts(parts, depth + 1)
    return {"unrendered": type(value).__name__, "shown": repr(value)[:_MAX_SHOWN]}


def _rendered_parts(parts: dict[Any, Any] | list[Any], depth: int) -> Any:
    if isinstance(parts, dict):
        return {str(name): rendered(part, depth) for name, part in parts.items()}
    return [rendered(part, depth) for part in parts]


def _parts(value: Any) -> dict[Any, Any] | list[Any] | None:
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return dict(dump())
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    if isinstance(value, dict):
        return value
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return dict(value._asdict())
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    return None
