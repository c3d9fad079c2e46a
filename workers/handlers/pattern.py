"""Which types a handler wants: names, with ``*`` for any characters and ``?`` for one. Pure."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Final

from tailrace.bus.errors import InvalidInputError

_PATTERN: Final = re.compile(r"[a-z0-9_.*?]{1,128}", re.ASCII)


def check_pattern(pattern: object) -> str:
    """Return the pattern when it may be used. Raises InvalidInputError."""
    if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern):
        raise InvalidInputError("pattern", f"{pattern!r:.80} is not an event type, or a pattern such as 'step.*'")
    return pattern


def matches(pattern: str, event_type: str) -> bool:
    """``stream.*`` are control frames, which only a pattern that names them matches."""
    if event_type.startswith("stream.") and not pattern.startswith("stream."):
        return False
    return fnmatchcase(event_type, pattern)
