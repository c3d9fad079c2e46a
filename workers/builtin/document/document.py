from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "markdown", "html", "pdf"]


@dataclass(frozen=True, slots=True)
class Document:
    """A file's text without its markup: a blank line separates paragraphs, and a line feed ends lines.

    `pages` is known for PDF only. `size_bytes` is the file's size, not the text's.
    """

    kind: Kind
    title: str | None
    text: str
    pages: int | None
    size_bytes: int
