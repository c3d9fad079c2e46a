"""Text that comes in pieces, cut within a surrogate pair (UTF-16's way to write a character). Pure."""

from __future__ import annotations

import re
from typing import Final

REPLACEMENT: Final = "\ufffd"
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def joined(text: str) -> tuple[str, str]:
    """The text with its pairs joined and lone halves replaced; and a first half at its end, that may yet be joined."""
    if not _SURROGATE.search(text):
        return text, ""
    half = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
    whole = text[:-1] if half else text
    return whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"), half
