"""A document's text, whichever of the known formats it has. Pure."""

from __future__ import annotations

from pathlib import PurePath

from tailrace.workers.builtin.document.document import Document, Kind
from tailrace.workers.builtin.document.errors import (
    DocumentBinaryError,
    DocumentEmptyError,
    DocumentNoTextError,
    PdfBrokenError,
)
from tailrace.workers.builtin.document.html import decode_html, read_html
from tailrace.workers.builtin.document.markdown import read_markdown
from tailrace.workers.builtin.document.pdf import Pdf
from tailrace.workers.builtin.document.plain import decode, tidy
from tailrace.workers.builtin.document.protocol import OnPage

_PDF_MAGIC = b"%PDF-"
_PDF_MAGIC_WITHIN_BYTES = 1024  # mailers and web servers put junk before it, and readers have always allowed that
_HTML_BEGINNINGS = (b"<!doctype html", b"<html")
_MARKDOWN_SUFFIXES = frozenset({".md", ".markdown", ".mdown", ".mkd"})
_HTML_SUFFIXES = frozenset({".html", ".htm", ".xhtml"})

MAX_TITLE_CHARACTERS = 500

"""Called with (pages done, pages in all) after each page of a PDF. What it raises ends the extraction."""


def extract(source: bytes, name: str, *, on_page: OnPage | None = None) -> Document:
    """The document in `source`; `name` is the file's, for its suffix and for messages.

    The parsers are not to be trusted with time and memory: see `process`. Raises a `DocumentError`.
    """
    kind = detect(source, PurePath(name).suffix.lower())
    pages = None
    title = None
    if kind == "pdf":
        pages, title, text = _read_pdf(source, name, on_page)
    elif kind == "html":
        title, text = _read_html(source, name)
    else:
        decoded = decode(source)
        if decoded is None:
            raise DocumentBinaryError(name)
        title, text = read_markdown(decoded) if kind == "markdown" else (None, decoded)
    text = tidy(text)
    if not any(map(str.isalnum, text)):
        if not source.strip(b"\x00\xff\xfe\xef\xbb\xbf \t\r\n\f"):
            raise DocumentEmptyError(name)
        raise DocumentNoTextError(name, is_pdf=kind == "pdf")
    return Document(kind, _short(title), text, pages, len(source))


def _short(title: str | None) -> str | None:
    """A title fit for an event, whatever the document calls one."""
    if not title:
        return None
    shown = tidy(title[: 2 * MAX_TITLE_CHARACTERS])
    return shown if len(shown) <= MAX_TITLE_CHARACTERS else shown[: MAX_TITLE_CHARACTERS - 1] + "…"


def detect(source: bytes, suffix: str) -> Kind:
    """What `source` is: by what is in it, then by the file's suffix."""
    if source.startswith(_PDF_MAGIC):
        return "pdf"
    if suffix == ".pdf":
        return "pdf"
    if suffix in _HTML_SUFFIXES or source[:200].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_HTML_BEGINNINGS):
        return "html"
    return "markdown" if suffix in _MARKDOWN_SUFFIXES else "text"


def _read_pdf(source: bytes, name: str, on_page: OnPage | None) -> tuple[int, str | None, str]:
    if _PDF_MAGIC not in source[:_PDF_MAGIC_WITHIN_BYTES]:
        raise PdfBrokenError(name, "it does not begin like one")
    pdf = Pdf(source, name)
    texts: list[str] = []
    for text in pdf.pages():
        texts.append(text)
        if on_page is not None:
            on_page(len(texts), pdf.page_count)
    return pdf.page_count, pdf.title, "\n\n".join(texts)


def _read_html(source: bytes, name: str) -> tuple[str | None, str]:
    decoded = decode_html(source)
    if decoded is None:
        raise DocumentBinaryError(name)
    return read_html(decoded.encode("utf-8", "replace").decode())
