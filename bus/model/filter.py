"""Which entries a viewer wants to see, and how. Pure. Filters never touch the cursor: what is skipped moves it too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, get_args

import orjson

from tailrace.bus.errors import InvalidInputError
from tailrace.bus.model.entry import Entry

MAX_PATTERNS: Final = 32
# What a graph of agents streams, in LangGraph's words; ``debug`` is all of it.
Mode = Literal["values", "updates", "custom", "messages", "tasks", "checkpoints", "debug"]
MODES: Final[tuple[str, ...]] = get_args(Mode)
MERGE_TOKENS: Final = "tokens"
_PATTERN: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*(\.\*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Filter:
    """``types`` are exact or end in ``.*``; the terminal event is always shown, since it tells how it ended.

    ``mode`` leaves out events whose meta names another mode; those that name none belong to all. With ``merges``,
    adjacent tokens of a step come as one.
    """

    types: tuple[str, ...] = ()
    step: str | None = None
    mode: str | None = None
    merges: bool = False

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


def check_merge(merge: str | None) -> bool:
    """Whether tokens are to be merged. Raises InvalidInputError for what else is given."""
    if merge is not None and merge != MERGE_TOKENS:
        raise InvalidInputError("merge", f"{merge[:32]!r} is not known; use {MERGE_TOKENS!r}, or leave it out")
    return merge is not None


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


def check_patterns(types: Sequence[str]) -> tuple[str, ...]:
    """Return patterns of types when they may be used. Raises InvalidInputError."""
    if isinstance(types, str):
        raise InvalidInputError("types", f"is a list of types, not the text {types!r}; write [{types!r}]")
    if len(types) > MAX_PATTERNS:
        raise InvalidInputError("types", f"has {len(types)} patterns, the limit is {MAX_PATTERNS}")
    return tuple(map(check_pattern, types))


@lru_cache(maxsize=8192)
def is_wanted_type(patterns: tuple[str, ...], event_type: str) -> bool:
    return any(
        event_type.startswith(pattern[:-1]) if pattern.endswith(".*") else event_type == pattern for pattern in patterns
    )
