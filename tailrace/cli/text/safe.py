"""Text from outside, made safe for a terminal. Pure."""

from __future__ import annotations

import re

# C0 and C1 controls, bidirectional overrides and line separators: what can move the cursor, recolour the
# screen or make a line read differently from what it says (CVE-2021-42574).
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")


def one_line(text: str) -> str:
    """Show control characters instead of obeying them."""
    return _UNSAFE.sub(_spell, text)


def paragraph(text: str) -> str:
    """The same, but line feeds stay."""
    return "\n".join(map(one_line, text.split("\n")))


def shortened(text: str, most_chars: int) -> str:
    return text if len(text) <= most_chars else text[: most_chars - 1] + "…"


def _spell(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
