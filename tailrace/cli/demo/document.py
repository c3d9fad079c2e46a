"""Which document the demo is about."""

from __future__ import annotations

from pathlib import Path
from typing import Final

SAMPLE: Final = Path(__file__).with_name("sample.md")


def choose(given: Path | None, directory: Path) -> Path:
    """The user's, else the README of the directory, else one of our own. Absolute: the worker may run elsewhere.

    What the user gave is not looked at: whether it can be read is the pipeline's to say.
    """
    if given is not None:
        return directory / given
    readme = directory / "README.md"
    return readme if readme.is_file() else SAMPLE


def size_bytes(document: Path) -> int:
    """0 for what cannot be looked at."""
    try:
        return document.stat().st_size
    except (OSError, ValueError):
        return 0
