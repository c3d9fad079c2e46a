"""HTML to text."""

# ruff: noqa: SIM905 - names of elements read better as a sentence than as forty quoted strings
from __future__ import annotations

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

from tailrace.workers.builtin.document.plain import decode

_LEFT_OUT = frozenset(
    {"script", "style", "nav", "template", "noscript", "head", "svg", "math", "iframe", "object", "select", "button"}
)
_PARAGRAPHS = frozenset(
    "address article aside blockquote body details dialog div dl fieldset figcaption figure footer form h1 h2 h3 "
    "h4 h5 h6 header hgroup hr main ol p pre section summary table ul".split()
)
_LINES = frozenset({"br", "caption", "dd", "dt", "li", "option", "tr"})
_CELLS = frozenset({"td", "th"})

_DECLARED = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)
_DECLARED_WITHIN_BYTES = 1024  # https://html.spec.whatwg.org/#prescan-a-byte-stream-to-determine-its-encoding


def declared_encoding(source: bytes) -> str | None:
    found = _DECLARED.search(source[:_DECLARED_WITHIN_BYTES])
    return found[1].decode("ascii") if found else None


def decode_html(source: bytes) -> str | None:
    """Text of `source` in the encoding that it declares, or None when it is binary."""
    return decode(source, declared=declared_encoding(source))


def read_html(html: str) -> tuple[str | None, str]:
    """(title, text) of `html`. Blocks become paragraphs; list items and rows, lines."""
    tree = LexborHTMLParser(html)
    title = _title(tree)
    body = tree.body
    return title, "" if body is None else _text(body)


def _title(tree: LexborHTMLParser) -> str | None:
    for selector in ("head > title", "h1"):
        node = tree.css_first(selector)
        if node is not None and (title := " ".join(node.text().split())):
            return title
    return None


def _text(root: LexborNode) -> str:
    """Walks without recursion: a page may be nested deeper than Python's stack."""
    flow = _Flow()
    node: LexborNode | None = root
    while node is not None:
        flow.enter(node)
        if node.child is not None and node.tag not in _LEFT_OUT:
            node = node.child
            continue
        while node is not None:
            flow.leave(node)
            if node.mem_id == root.mem_id:
                return flow.text()
            if node.next is not None:
                node = node.next
                break
            node = node.parent
    return flow.text()


class _Flow:
    """Text as it is laid out: white space collapses, and the strongest of adjacent breaks wins."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._break = ""
        self._preformatted = 0

    def enter(self, node: LexborNode) -> None:
        if node.is_text_node:
            self._add(node.text_content or "")
            return
        self._end(node.tag)
        self._preformatted += node.tag == "pre"

    def leave(self, node: LexborNode) -> None:
        if not node.is_text_node:
            self._end(node.tag)
            self._preformatted -= node.tag == "pre"

    def _end(self, tag: str | None) -> None:
        if tag in _PARAGRAPHS:
            self._separate("\n\n")
        elif tag in _LINES:
            self._separate("\n")
        elif tag in _CELLS:
            self._separate(" | ")

    def _separate(self, separator: str) -> None:
        if self._pieces:
            self._break = max(self._break, separator, key=lambda each: (each.count("\n"), len(each)))

    def _add(self, text: str) -> None:
        shown = text.strip("\n") if self._preformatted else " ".join(text.split())
        if not shown:
            if text:
                self._separate(" ")
            return
        if text[0].isspace():
            self._separate(" ")
        self._pieces += (self._break, shown)
        self._break = " " if text[-1].isspace() else ""

    def text(self) -> str:
        return "".join(self._pieces)
