"""PDF to text, page by page.

A PDF is a program for a small machine, and this one may be written to hurt: pypdf bounds nesting, loops and
decompression. The process that this runs in bounds the rest.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

from pypdf import PdfReader
from pypdf.errors import DependencyError, FileNotDecryptedError

from tailrace.workers.builtin.document.errors import DocumentTooLargeError, PdfBrokenError, PdfEncryptedError
from tailrace.workers.builtin.document.protocol import MAX_PAGES

MAX_CHARACTERS = 50_000_000

# pypdf writes a log line for each oddity of a file. Whether a file can be read is told by our errors.
logging.getLogger("pypdf").setLevel(logging.CRITICAL + 1)


class Pdf:
    """An open PDF: `page_count`, `title`, and the text of its pages."""

    def __init__(self, source: bytes, name: str) -> None:
        """`name` is for error messages.

        Raises `PdfBrokenError`, `PdfEncryptedError`, `DocumentTooLargeError` (pages).
        """
        self._name = name
        try:
            self._reader = PdfReader(io.BytesIO(source))
            # Many encrypted PDFs open for everybody: their password for reading is the empty one.
            is_locked = self._reader.is_encrypted and not self._reader.decrypt("")
            self.page_count = 0 if is_locked else len(self._reader.pages)
        except (FileNotDecryptedError, DependencyError, NotImplementedError) as error:
            raise PdfEncryptedError(name) from error
        except MemoryError:
            raise
        except Exception as error:  # pypdf: "broken PDF files might cause other exceptions"
            raise PdfBrokenError(name, _reason(error)) from error
        if is_locked:
            raise PdfEncryptedError(name)
        if self.page_count == 0:
            raise PdfBrokenError(name, "it has no pages")
        if self.page_count > MAX_PAGES:
            raise DocumentTooLargeError(name, size=self.page_count, limit=MAX_PAGES, unit="pages")
        self.title = _title(self._reader)

    def pages(self) -> Iterator[str]:
        """The text of each page, in order; an empty one for a page without text.

        Raises `PdfBrokenError`, `PdfEncryptedError`, `DocumentTooLargeError` (characters).
        """
        characters = 0
        for number in range(1, self.page_count + 1):
            text = self._page(number)
            characters += len(text)
            if characters > MAX_CHARACTERS:
                raise DocumentTooLargeError(self._name, size=characters, limit=MAX_CHARACTERS, unit="characters")
            yield text

    def _page(self, number: int) -> str:
        try:
            return self._reader.pages[number - 1].extract_text()
        except MemoryError:
            raise
        except (FileNotDecryptedError, DependencyError) as error:
            raise PdfEncryptedError(self._name) from error
        except Exception as error:
            raise PdfBrokenError(self._name, f"page {number}: {_reason(error)}") from error


def _title(reader: PdfReader) -> str | None:
    try:
        title = reader.metadata.title if reader.metadata is not None else None
    except Exception:  # noqa: BLE001 - a document whose metadata is broken still has its text
        return None
    return " ".join(title.split()) or None if isinstance(title, str) else None


def _reason(error: Exception) -> str:
    """The first line of an error's message, short enough for a sentence."""
    if isinstance(error, RecursionError):
        return "its parts contain each other"
    lines = str(error).splitlines()
    return (lines[0].rstrip(" .")[:120] if lines else "") or type(error).__name__
