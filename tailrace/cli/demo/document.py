"""Which document the demo is about."""

from __future__ import annotations

from pathlib import Path
from typing import Final

SAMPLE: Final = Path(__file__).with_name("sample.md")


def choose(given: Path | None, directory: Path) -> Path:
    """The user's file, else the demo's own text. Absolute, since the worker may have another working directory.

    The file is not opened here: the pipeline says whether it can be read.
    """
    return SAMPLE if given is None else directory / given


def size_bytes(document: Path) -> int:
    """0 when it cannot be read."""
    try:
        return document.stat().st_size
    except (OSError, ValueError):
        return 0
