"""Bytes to text, without trust in either."""

from __future__ import annotations

import codecs
import re

_BOMS = (
    # UTF-32 first: its little-endian mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Text has tabs, line ends, form feeds and, in captured terminal output, backspaces and escapes.
_CONTROLS = bytes(set(range(0x20)) - set(b"\t\n\r\f\b\x1b")) + b"\x7f"
_MAX_CONTROL_SHARE = 0.01
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff]")
_SPACE_BEFORE_LINE_END = re.compile(r"(?<!\s)[^\S\n]+\n")
_BLANK_LINES = re.compile(r"\n\s*\n")


def decode(source: bytes, *, declared: str | None = None) -> str | None:
    """The text of `source`, or None when it is binary.

    A byte order mark decides, then `declared` (the name of an encoding, from the document itself), then
    UTF-8, then Windows-1252, which is what undeclared Western text of the last decades is.
    """
    for mark, encoding in _BOMS:
        if source.startswith(mark):
            return _decoded(source, encoding)
    if _is_binary(source):
        return None
    for candidate in (declared, "utf-8", "cp1252"):
        decoded = _decoded(source, candidate) if candidate is not None else None
        if decoded is not None:
            return decoded
    return source.decode("latin-1")


def _decoded(source: bytes, encoding: str) -> str | None:
    try:
        # bytes.decode knows text encodings only: a document that declares "zlib" gets a LookupError.
        return source.decode(encoding)
    except (LookupError, ValueError):
        return None


def _is_binary(source: bytes) -> bool:
    if b"\x00" in source:
        return True
    controls = len(source) - len(source.translate(None, _CONTROLS))
    return controls > _MAX_CONTROL_SHARE * len(source)


def tidy(text: str) -> str:
    """Line feeds end lines, blank lines are single, and nothing is left that JSON or a terminal would choke on."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n")
    text = _UNPRINTABLE.sub("", text)
    text = _SPACE_BEFORE_LINE_END.sub("\n", text)
    return _BLANK_LINES.sub("\n\n", text).strip()
