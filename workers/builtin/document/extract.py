"""A file's text, whichever of the known formats it has."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from tailrace.workers.builtin.document.document import Document, Kind
from tailrace.workers.builtin.document.errors import (
    DocumentBinaryError,
    DocumentEmptyError,
    DocumentMissingError,
    DocumentNotAFileError,
    DocumentNoTextError,
    DocumentTooComplexError,
    DocumentTooLargeError,
    DocumentUnreadableError,
    PdfBrokenError,
)
from tailrace.workers.builtin.document.html import MAX_TREE_WORK, decode_html, read_html, tree_work
from tailrace.workers.builtin.document.markdown import read_markdown
from tailrace.workers.builtin.document.pdf import Pdf
from tailrace.workers.builtin.document.plain import decode, tidy

_PDF_MAGIC = b"%PDF-"
_PDF_MAGIC_WITHIN_BYTES = 1024  # mailers and web servers put junk before it, and readers have always allowed that
_HTML_BEGINNINGS = (b"<!doctype html", b"<html")
_MARKDOWN_SUFFIXES = frozenset({".md", ".markdown", ".mdown", ".mkd"})
_HTML_SUFFIXES = frozenset({".html", ".htm", ".xhtml"})

OnPage = Callable[[int, int], None]
"""Called with (pages done, pages in all) after each page of a PDF. What it raises ends the extraction."""


def extract(path: Path, *, max_bytes: int = 50_000_000, on_page: OnPage | None = None) -> Document:
    """The document in the file at `path`. Blocks while it works: call it in a thread.

    Raises a `DocumentError`.
    """
    name = str(path)
    source = _read(path, max_bytes)
    kind = detect(source, path.suffix.lower())
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
    return Document(kind, tidy(title) if title else None, text, pages, len(source))


def detect(source: bytes, suffix: str) -> Kind:
    """What `source` is: by what is in it, then by the file's suffix."""
    if source.startswith(_PDF_MAGIC):
        return "pdf"
    if suffix == ".pdf":
        return "pdf"
    if suffix in _HTML_SUFFIXES or source[:200].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_HTML_BEGINNINGS):
        return "html"
    return "markdown" if suffix in _MARKDOWN_SUFFIXES else "text"


def _read(path: Path, max_bytes: int) -> bytes:
    name = str(path)
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            return _read_regular(file, name, max_bytes)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DocumentMissingError(name) from error
    except IsADirectoryError as error:
        raise DocumentNotAFileError(name, is_directory=True) from error
    except OSError as error:
        raise DocumentUnreadableError(name, error.strerror or "unknown error") from error
    except ValueError as error:  # a NUL in the path
        raise DocumentMissingError(name) from error


def _read_regular(file: BinaryIO, name: str, max_bytes: int) -> bytes:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise DocumentNotAFileError(name, is_directory=False)
    # Both are looked at: a file may grow while it is read, and those of /proc say that they are empty.
    source = b"" if status.st_size > max_bytes else file.read(max_bytes + 1)
    size = max(status.st_size, len(source))
    if size > max_bytes:
        raise DocumentTooLargeError(name, size=size, limit=max_bytes, unit="bytes")
    if not source:
        raise DocumentEmptyError(name)
    return source


def _open_without_waiting(path: str, flags: int) -> int:
    """Opening a named pipe waits until somebody writes to it, unless told not to."""
    return os.open(path, flags | os.O_NONBLOCK)


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
    if tree_work(decoded) > MAX_TREE_WORK:
        raise DocumentTooComplexError(name, "its elements are nested too deeply or have too many attributes")
    return read_html(decoded.encode("utf-8", "replace").decode())
