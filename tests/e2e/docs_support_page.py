"""A page of the documentation, read: its code blocks, tables, headings and links. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

_MARKDOWN: Final = MarkdownIt("commonmark").enable("table")
_NOT_RUN: Final = re.compile(r"<!--\s*not run\b:?\s*(.*?)\s*-->", re.DOTALL)
_NOT_IN_ANCHORS: Final = re.compile(r"[^\w\- ]")


@dataclass(frozen=True)
class Block:
    """One fenced block of code. ``not_run`` is the reason of a block that must not be run; None for one that is run."""

    place: str
    language: str
    text: str
    not_run: str | None


@dataclass(frozen=True)
class Page:
    name: str
    text: str

    @property
    def blocks(self) -> list[Block]:
        tokens = _MARKDOWN.parse(self.text)
        return [
            Block(self._place(token), token.info.strip(), token.content, _reason(before))
            for before, token in zip([None, *tokens], tokens, strict=False)
            if token.type == "fence"
        ]

    def blocks_of(self, language: str) -> list[str]:
        return [block.text for block in self.blocks if block.language == language]

    @property
    def rows(self) -> list[list[str]]:
        """The cells of all rows of all tables, as they are written, without the quotes of code."""
        rows: list[list[str]] = []
        for token, content in pairwise(_MARKDOWN.parse(self.text)):
            if token.type == "tr_open":
                rows.append([])
            elif token.type in {"td_open", "th_open"}:
                rows[-1].append(content.content.strip("`"))
        return rows

    @property
    def headings(self) -> list[str]:
        return [
            "".join(child.content for child in content.children or ())
            for token, content in pairwise(_MARKDOWN.parse(self.text))
            if token.type == "heading_open"
        ]

    @property
    def anchors(self) -> set[str]:
        """As GitHub makes them of headings."""
        return {_NOT_IN_ANCHORS.sub("", heading.lower()).replace(" ", "-") for heading in self.headings}

    @property
    def code_spans(self) -> list[str]:
        """Code in the midst of sentences."""
        tokens = _MARKDOWN.parse(self.text)
        return [child.content for token in tokens for child in token.children or () if child.type == "code_inline"]

    @property
    def links(self) -> list[str]:
        return [
            str(child.attrs["href" if child.type == "link_open" else "src"])
            for token in _MARKDOWN.parse(self.text)
            for child in token.children or ()
            if child.type in {"link_open", "image"}
        ]

    def _place(self, token: Token) -> str:
        return f"{self.name}:{token.map[0] + 1 if token.map else '?'}"


def _reason(before: Token | None) -> str | None:
    found = _NOT_RUN.search(before.content) if before is not None and before.type == "html_block" else None
    return found[1] if found else None
