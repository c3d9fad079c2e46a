"""Which entries a viewer wants to see. Pure. Filters never touch the cursor: what is skipped still moves it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import orjson

from tailrace.bus.errors import InvalidInputError
from tailrace.bus.model.entry import Entry

MAX_PATTERNS: Final = 32
# What a graph of agents streams: its state, or what its nodes write as they work, or both.
MODES: Final = ("values", "custom", "debug")
_PATTERN: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*(\.\*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Filter:
    """``types`` are exact or end in ``.*``; the terminal event is always shown, since it tells how it ended.

    ``mode`` leaves out events whose meta names another mode; those that name none belong to all.
    """

    types: tuple[str, ...] = ()
    step: str | None = None
    mode: str | None = None

    def wants(self, entry: Entry) -> bool:
        if entry.is_terminal:
            return True
        if self.step is not None and entry.step != self.step:
            return False
        if self.mode is not None and entry.raw_meta is not None and mode_of(entry.raw_meta) not in {None, self.mode}:
            return False
        return not self.types or is_wanted_type(self.types, entry.type)


def check_mode(mode: str) -> str | None:
    """Return the mode to filter by; None for ``debug``, which shows all. Raises InvalidInputError."""
    if mode not in MODES:
        raise InvalidInputError("mode", f"{mode[:32]!r} is not known; use one of {', '.join(MODES)}")
    return None if mode == "debug" else mode


def mode_of(raw_meta: bytes) -> str | None:
    """What an event says of itself, if it does."""
    meta = orjson.loads(raw_meta)
    mode = meta.get("mode") if isinstance(meta, dict) else None
    return mode if isinstance(mode, str) else None


def check_pattern(pattern: str) -> str:
    """Return a pattern of types when it may be used. Raises InvalidInputError."""
    if len(pattern) > 128 or not _PATTERN.fullmatch(pattern):  # noqa: PLR2004 - as long as a type may be
        raise InvalidInputError("types", f"{pattern[:64]!r} is neither a type nor a prefix like 'step.*'")
    return pattern


@lru_cache(maxsize=8192)
def is_wanted_type(patterns: tuple[str, ...], event_type: str) -> bool:
    return any(
        event_type.startswith(pattern[:-1]) if pattern.endswith(".*") else event_type == pattern for pattern in patterns
    )
