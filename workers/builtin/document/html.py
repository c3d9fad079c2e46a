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

_TAG = re.compile(r"""<(/?)([a-zA-Z][^\s/>]*+)((?:[^>=]++|=\s*+"[^"]*+(?:"|\Z)|=\s*+'[^']*+(?:'|\Z)|=)*+)(?:>|\Z)""")
_VALUE = re.compile(r""""[^"]*+"|'[^']*+'""")
_VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())
_ENDED_BY_THE_NEXT = frozenset("body dd dt head html li optgroup option p tbody td tfoot th thead tr".split())
_FORMATTING = frozenset("a b big code em font i nobr s small strike strong tt u".split())
_MAX_FORMATTING_DEPTH = 8
_FORMATTING_WORK = 100
_MANY_ATTRIBUTES_CHARACTERS = 1000
_ATTRIBUTE_CHARACTERS = 6
MAX_TREE_WORK = 100_000_000


def declared_encoding(source: bytes) -> str | None:
    found = _DECLARED.search(source[:_DECLARED_WITHIN_BYTES])
    return found[1].decode("ascii") if found else None


def decode_html(source: bytes) -> str | None:
    """Text of `source` in the encoding that it declares, or None when it is binary."""
    return decode(source, declared=declared_encoding(source))


def tree_work(html: str) -> int:
    """How much work building the tree of `html` is, near enough; counting stops above `MAX_TREE_WORK`.

    The HTML standard has a parser look up the stack of open elements at each tag, open formatting elements that
    were left open anew in each paragraph, and compare each attribute with those before it. With good HTML that
    is nothing. With a megabyte of `<div>`, or of attributes, it is minutes, and no signal stops it. So what is
    quadratic is counted beforehand, by a scan that is not.
    """
    open_elements: list[str] = []
    formatting = work = 0
    for tag in _TAG.finditer(html):
        name = tag[2].lower()
        if name in _VOID or name in _ENDED_BY_THE_NEXT:
            work += len(open_elements)
        elif not tag[1]:
            open_elements.append(name)
            formatting += name in _FORMATTING
            work += len(open_elements)
        elif open_elements and open_elements[-1] == name:
            # An end tag that does not match the latest start tag may or may not end something: as if not.
            open_elements.pop()
            formatting -= name in _FORMATTING
        work += _FORMATTING_WORK * max(0, formatting - _MAX_FORMATTING_DEPTH) + _attribute_work(tag[3])
        if work > MAX_TREE_WORK:
            break
    return work


def _attribute_work(attributes: str) -> int:
    if len(attributes) < _MANY_ATTRIBUTES_CHARACTERS:
        return 0
    # One attribute may well be long: an image in its own URL.
    length = len(_VALUE.sub("", attributes))
    return 0 if length < _MANY_ATTRIBUTES_CHARACTERS else (length // _ATTRIBUTE_CHARACTERS) ** 2


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
