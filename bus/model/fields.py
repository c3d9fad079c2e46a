"""Fields of a Redis hash or entry, which any program may have written. Pure."""

from __future__ import annotations

from typing import Final

# No more than an unsigned 64-bit number has; what is longer, another program wrote.
_MAX_DIGITS: Final = 20


def text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode(errors="replace")


def number(raw: bytes | str | None, *, max_digits: int = _MAX_DIGITS) -> int | None:
    """None also for what is not a number. A text of other digits than 0 to 9, such as "²", is none."""
    return int(raw) if raw is not None and raw.isascii() and raw.isdigit() and len(raw) <= max_digits else None
