"""What can be wrong with a document.

* `DocumentError`
    * `DocumentMissingError`: no such file
    * `DocumentForbiddenError`: outside the folders that the worker's operator named
    * `DocumentNotAFileError`: a directory, a device or a pipe
    * `DocumentUnreadableError`: no permission, or the disk fails
    * `DocumentEmptyError`: nothing in it
    * `DocumentTooLargeError`: more bytes, pages or characters than allowed
    * `DocumentTooComplexError`: takes too much time or memory to parse, or the parser crashed
    * `DocumentBinaryError`: not text, and no format that is known here
    * `DocumentNoTextError`: well-formed, but without words (a scan)
    * `PdfBrokenError`: not to be read as PDF
    * `PdfEncryptedError`: needs a password

Each message is one sentence that names the file and the cure; it is shown to those who submitted the file.
`code` is stable, for programs.
"""

from __future__ import annotations

from tailrace.workers.errors import WorkerError


class DocumentError(WorkerError):
    code = "document_error"

    def __init__(self, name: str, sentence: str) -> None:
        """`name` is the file as the user gave it; `sentence` goes on from "The file 'name' "."""
        # repr: a file name may hold newlines, escapes or undecodable bytes, and this goes to terminals.
        super().__init__(f"The file {name!r} {sentence}.")
        self.name = name

    @classmethod
    def told(cls, code: str, message: str) -> DocumentError:
        """The error of that code, as another process worded it; a plain `DocumentError` for a code that is unknown."""
        kind = next((each for each in DocumentError.__subclasses__() if each.code == code), DocumentError)
        error = kind.__new__(kind)
        Exception.__init__(error, message)
        return error


class DocumentMissingError(DocumentError):
    code = "document_missing"

    def __init__(self, name: str) -> None:
        super().__init__(name, "does not exist: check the path, and that it is on the worker's machine")


class DocumentForbiddenError(DocumentError):
    code = "document_forbidden"

    def __init__(self, name: str, *, is_off: bool) -> None:
        """Says the same whether the file exists or not."""
        why = (
            "cannot be read: this worker reads no files, because its operator named no folder with --document-root "
            "(or TAILRACE_DOCUMENT_ROOTS)"
            if is_off
            else "is outside the folders that this worker may read documents from"
        )
        super().__init__(name, f"{why}; submit the document's content instead of its path, or ask the operator")


class DocumentNotAFileError(DocumentError):
    code = "document_not_a_file"

    def __init__(self, name: str, *, is_directory: bool) -> None:
        what = "is a directory" if is_directory else "is a device, a pipe or a socket"
        super().__init__(name, f"{what}: give the path of a regular file")


class DocumentUnreadableError(DocumentError):
    code = "document_unreadable"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            name, f"cannot be read ({reason}): let the worker's user read it, or check the path and the disk"
        )


class DocumentEmptyError(DocumentError):
    code = "document_empty"

    def __init__(self, name: str) -> None:
        super().__init__(name, "is empty: save it again, or give another file")


class DocumentTooLargeError(DocumentError):
    code = "document_too_large"

    def __init__(self, name: str, *, size: int, limit: int, unit: str) -> None:
        super().__init__(name, f"has {size:,} {unit}, and the limit is {limit:,}: split it into smaller files")
        self.size = size
        self.limit = limit
        self.unit = unit


class DocumentTooComplexError(DocumentError):
    code = "document_too_complex"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, f"is too complex ({reason}): simplify it, or export it as plain text")


class DocumentBinaryError(DocumentError):
    code = "document_binary"

    def __init__(self, name: str) -> None:
        super().__init__(name, "holds binary data: give a text, Markdown, HTML or PDF file")


class DocumentNoTextError(DocumentError):
    code = "document_no_text"

    def __init__(self, name: str, *, is_pdf: bool) -> None:
        cure = (
            "is a PDF without text, probably a scan: run text recognition (OCR) over it first"
            if is_pdf
            else "holds no words: give a file with text in it"
        )
        super().__init__(name, cure)


class PdfBrokenError(DocumentError):
    code = "document_pdf_broken"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            name, f"is not a readable PDF ({reason}): get it anew, or open it in a viewer and export it again"
        )


class PdfEncryptedError(DocumentError):
    code = "document_pdf_encrypted"

    def __init__(self, name: str) -> None:
        super().__init__(name, "is an encrypted PDF: save a copy without a password and give that")
