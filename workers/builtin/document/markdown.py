"""Markdown to text: what a reader would read, without the marks.

In linear time, whatever is in the file: each pattern stops at the mark that could begin it anew. A parser for
all of CommonMark would build a tree of tokens, forty times the size of the file, to throw the marks away.
"""

from __future__ import annotations

import html
import re

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n((?:(?:[\w-]+:|[ \t#]|- ).*\n|\n)*)(?:---|\.\.\.)[ \t]*(?:\n|\Z)")
_FRONT_MATTER_TITLE = re.compile(r"""^title:[ \t]*["']?(.+?)["']?[ \t]*$""", re.MULTILINE)
_COMMENT = re.compile(r"<!--(?:(?!-->|<!--).)*-->", re.DOTALL)

_FENCE = re.compile(r"[ >]*(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}#{1,6}(?:[ \t]+|$)")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-+)[ \t]*$")
_DEFINITION = re.compile(r" {0,3}\[[^\[\]]{1,200}\]:[ \t]*\S")
_QUOTE = re.compile(r"(?: {0,3}>[ \t]?)+")
_BULLET = re.compile(r"([ \t]*)[-*+][ \t]+(?:\[[ xX]\][ \t]+)?")

_VERBATIM = re.compile(r"\\([!-/:-@\[-`{-~])|(?<!`)(`{1,3})(?!`)([^`]{1,2000})\2(?!`)")
_HELD = re.compile("\ue000(\\d{1,9})\ue001")
_IMAGE = re.compile(r"!\[([^\[\]]{0,1000})\](?:\([^()]{0,2000}\)|\[[^\[\]]{0,200}\])")
_TARGET = r"\([^()]{0,2000}(?:\([^()]{0,500}\)[^()]{0,500})?\)"
_LINK = re.compile(rf"\[([^\[\]]{{1,1000}})\](?:{_TARGET}|\[[^\[\]]{{0,200}}\])")
_EMPTY_LINK = re.compile(rf"\[\]{_TARGET}")
_AUTOLINK = re.compile(r"<((?:https?|mailto|ftp):[^<>\s]{1,2000})>")
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,2000}>")
_STARS = re.compile(r"(?<![\w*])(\*{1,3})(?=[^\s*])([^*]{1,2000})(?<=\S)\1(?!\*)")
_UNDERSCORES = re.compile(r"(?<!\w)(_{1,3})(?=[^\s_])([^_]{1,2000})(?<=\S)\1(?!\w)")
_STRUCK = re.compile(r"~~([^~]{1,2000})~~")
_EMPHASIS_DEPTH = 3
_REFERENCE = re.compile(r"&#0*([0-9]+);?")
_REFERENCE_DIGITS = 7  # https://spec.commonmark.org/0.31.2/#decimal-numeric-character-references


def read_markdown(source: str) -> tuple[str | None, str]:
    """(title, text). Headings and code keep their lines; links and images become their text.

    The title is the front matter's, or the first heading.
    """
    source = source.replace("\r\n", "\n").replace("\r", "\n").replace("\ue000", "").replace("\ue001", "")
    title = None
    if front := _FRONT_MATTER.match(source):
        found = _FRONT_MATTER_TITLE.search(front[1])
        title = found[1] if found else None
        source = source[front.end() :]
    blocks = _Blocks()
    for line in _COMMENT.sub("", source).split("\n"):
        blocks.read(line)
    return title or blocks.heading, blocks.text()


class _Blocks:
    """The document so far, and the paragraph or the fenced code that the next line may go on with."""

    def __init__(self) -> None:
        self.heading: str | None = None
        self._finished: list[str] = []
        self._open: list[str] = []
        self._fence = ""

    def read(self, line: str) -> None:
        fence = _FENCE.match(line)
        if self._fence:
            if fence and fence[1].startswith(self._fence) and not line[fence.end() :].strip():
                self._fence = ""
                self._finish(verbatim=True)
            else:
                self._open.append(line)
        elif fence and "`" not in line[fence.end() :]:
            self._finish()
            self._fence = fence[1]
        else:
            self._read_prose(line)

    def _read_prose(self, line: str) -> None:
        if quote := _QUOTE.match(line):
            line = line[quote.end() :]
        if self._open and _UNDERLINE.match(line):
            self._finish(heading=True)
        elif not line.strip() or _is_rule(line):
            self._finish()
        elif mark := _HEADING.match(line):
            self._finish()
            self._open.append(line[mark.end() :].rstrip("# \t"))
            self._finish(heading=True)
        elif not (_is_table_rule(line) or _DEFINITION.match(line)):
            self._open.append(_BULLET.sub(r"\1- ", line, count=1) if _BULLET.match(line) else line.strip())

    def _finish(self, *, heading: bool = False, verbatim: bool = False) -> None:
        block = "\n".join(self._open)
        self._open = []
        if not verbatim:
            block = "\n".join(map(_row, plain(block).split("\n")))
        if heading and block and self.heading is None:
            self.heading = " ".join(block.split())
        if block.strip():
            self._finished.append(block)

    def text(self) -> str:
        self._finish(verbatim=bool(self._fence))
        return "\n\n".join(self._finished)


def _is_rule(line: str) -> bool:
    marks = "".join(line.split())
    return len(marks) >= 3 and marks[0] in "*-_" and marks == marks[0] * len(marks)  # noqa: PLR2004 - CommonMark 4.1


def _is_table_rule(line: str) -> bool:
    return "|" in line and "-" in line and set(line) <= set("|-: \t")


def _row(line: str) -> str:
    """The cells of a table's row, side by side; any other line as it is."""
    row = line.strip()
    if len(row) > 1 and row.startswith("|") and row.endswith("|"):
        return " | ".join(cell.strip() for cell in row[1:-1].split("|"))
    return line


def plain(text: str) -> str:
    """A paragraph without its inline marks."""
    held: list[str] = []

    def hold(match: re.Match[str]) -> str:
        held.append(match[1] or match[3].strip())
        return f"\ue000{len(held) - 1}\ue001"

    text = _VERBATIM.sub(hold, text)
    text = _AUTOLINK.sub(r"\1", text)
    text = _TAG.sub("", text)
    text = _IMAGE.sub(r"\1", text)
    text = _EMPTY_LINK.sub("", _LINK.sub(r"\1", text))
    for _ in range(_EMPHASIS_DEPTH):
        text = _UNDERSCORES.sub(r"\2", _STARS.sub(r"\2", text))
    text = _REFERENCE.sub(_referred, text)
    text = html.unescape(_STRUCK.sub(r"\1", text))
    return _HELD.sub(lambda match: held[int(match[1])] if int(match[1]) < len(held) else "", text)


def _referred(reference: re.Match[str]) -> str:
    """As it is, or what stands for a character that does not exist: Python converts no number of 5,000 digits."""
    digits = reference[1]
    return f"&#{digits};" if len(digits) <= _REFERENCE_DIGITS else "\ufffd"
