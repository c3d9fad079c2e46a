"""Real files of each kind, and each way in which a file can be wrong."""

from __future__ import annotations

import logging
import os
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tailrace.workers.builtin.document import pdf as pdf_module
from tailrace.workers.builtin.document.document import Document
from tailrace.workers.builtin.document.errors import (
    DocumentBinaryError,
    DocumentEmptyError,
    DocumentError,
    DocumentMissingError,
    DocumentNotAFileError,
    DocumentNoTextError,
    DocumentTooLargeError,
    DocumentUnreadableError,
    PdfBrokenError,
    PdfEncryptedError,
)
from tailrace.workers.builtin.document.extract import extract as extracted
from tailrace.workers.builtin.document.protocol import OnPage
from tailrace.workers.builtin.document.source import MAX_BYTES, contents, opened
from tests.unit.workers.pdfs import assembled, encrypted, pdf, written

Save = Callable[[str, bytes], Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def extract(path: Path, *, max_bytes: int = MAX_BYTES, on_page: OnPage | None = None) -> Document:
    with opened(str(path), [Path("/")], max_bytes=max_bytes) as source:
        content = contents(source.descriptor, source.name, max_bytes=max_bytes)
        return extracted(content, source.name, on_page=on_page)


def refused(path: Path, kind: type[DocumentError]) -> str:
    """The sentence with which `path` is refused."""
    with pytest.raises(kind) as caught:
        extract(path)
    assert type(caught.value) is kind
    sentence = str(caught.value)
    assert sentence.startswith(f"The file {str(path)!r} ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def within(seconds: float, path: Path, *kinds: type[DocumentError]) -> None:
    before = time.monotonic()
    with pytest.raises(kinds):
        extract(path)
    assert time.monotonic() - before < seconds


# Text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_text_is_read_in_any_usual_encoding(save: Save, encoding: str) -> None:
    path = save("note.txt", "Größe “naïve”".encode(encoding))
    assert extract(path) == Document("text", None, "Größe “naïve”", None, path.stat().st_size)


def test_text_in_bytes_that_windows_does_not_know_is_still_read(save: Save) -> None:
    assert extract(save("note.txt", b"caf\xe9 \x81 au lait")).text == "café  au lait"


def test_line_ends_are_made_one_and_control_characters_dropped(save: Save) -> None:
    colours = b"\x1b[31mred\x1b[0m"
    document = extract(save("note.txt", b"one  \r\ntwo\rthree\n \t\n\n\n" + colours + b"\n" * 3))
    assert document.text == "one\ntwo\nthree\n\n[31mred[0m"


def test_a_suffix_that_is_unknown_is_read_as_text(save: Save) -> None:
    assert extract(save("LICENSE", b"All rights.")).kind == "text"


def test_the_repository_s_own_readme_can_be_read() -> None:
    document = extract(Path(__file__).parents[3] / "README.md")
    assert document.kind == "markdown"
    assert document.title


# HTML


def test_html_becomes_paragraphs_without_scripts_and_navigation(save: Save) -> None:
    page = b"""<!DOCTYPE html><html><head><title> A  &amp; B </title><style>p{}</style></head><body>
    <nav><a href=/>Home</a></nav><script>alert('<p>no</p>')</script><!-- hidden -->
    <h1>Head</h1><p>One <b>bo</b>ld,
    <i>two</i>.<br>Three</p>four<ul><li>x<li>y</ul>
    <table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table><pre>  k\n    v</pre>
    <noscript>none</noscript></body></html>"""
    document = extract(save("page.html", page))
    assert (document.kind, document.title) == ("html", "A & B")
    assert document.text == ("Head\n\nOne bold, two.\nThree\n\nfour\n\nx\ny\n\na | b\nc\n\n  k\n    v")


def test_html_is_known_by_its_beginning_whatever_the_suffix(save: Save) -> None:
    assert extract(save("page.txt", b"\xef\xbb\xbf \n<!doctype HTML><p>x")).kind == "html"


def test_html_is_read_in_the_encoding_that_it_declares(save: Save) -> None:
    page = '<meta charset="iso-8859-2"><p>Łódź</p>'.encode("iso-8859-2")
    assert extract(save("page.html", page)).text == "Łódź"


@pytest.mark.parametrize("charset", ["no-such", "zlib", "rot13", "idna", "utf-16"])
def test_html_that_declares_nonsense_is_still_read(save: Save, charset: str) -> None:
    assert extract(save("page.html", f"<meta charset={charset}><p>Größe</p>".encode())).text == "Größe"


def test_html_without_a_title_takes_its_first_heading(save: Save) -> None:
    assert extract(save("page.html", b"<svg><title>icon</title></svg><h1>The\nhead</h1>")).title == "The head"


@pytest.mark.parametrize("page", [b"<html><frameset></frameset>", b"<script>x</script>", b"<html>"])
def test_html_without_words_is_refused(save: Save, page: bytes) -> None:
    assert "holds no words" in refused(save("page.html", page), DocumentNoTextError)


def test_html_nested_deeper_than_python_can_recurse_is_read(save: Save) -> None:
    assert extract(save("page.html", b"<div>" * 5000 + b"deep")).text == "deep"


def test_long_ordinary_html_is_not_taken_for_an_attack(save: Save) -> None:
    page = (
        b"<p class=x>Some <b>words</b> and <a href='https://example.org/?a=b'>links</a>.\n<ul><li>x<li>y</ul>" * 20_000
    )
    image = b"<img src='data:image/png;base64," + b"abc/" * 100_000 + b"'>"
    assert extract(save("page.html", image + page)).text.count("links") == 20_000


# PDF


def test_a_pdf_is_read_page_by_page(save: Save) -> None:
    done: list[tuple[int, int]] = []
    path = save("paper.pdf", pdf("First page (one).\nSecond line.", "Größe", title="A  paper"))
    document = extract(path, on_page=lambda page, pages: done.append((page, pages)))
    assert document == Document("pdf", "A paper", "First page (one).\nSecond line.\n\nGröße", 2, path.stat().st_size)
    assert done == [(1, 2), (2, 2)]


def test_what_a_page_callback_raises_ends_the_extraction(save: Save) -> None:
    def cancel(_page: int, _pages: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(save("paper.pdf", pdf("x", "y")), on_page=cancel)


def test_a_pdf_is_known_by_its_beginning_whatever_the_suffix(save: Save) -> None:
    assert extract(save("paper.txt", pdf("Words"))).kind == "pdf"


def test_a_pdf_with_junk_before_it_is_read(save: Save) -> None:
    assert extract(save("paper.pdf", b"HTTP/1.1 200 OK\r\n\r\n" + pdf("Words"))).text == "Words"


def test_a_pdf_whose_parts_can_be_found_without_its_table_is_read(save: Save) -> None:
    lost = pdf("Words").replace(b"/Root 1 0 R", b"/Root 9 0 R").replace(b"startxref\n", b"startxref\n9")
    assert extract(save("paper.pdf", lost)).text == "Words"


def test_a_text_that_is_called_pdf_is_refused(save: Save) -> None:
    assert "does not begin like one" in refused(save("paper.pdf", b"Words"), PdfBrokenError)


def test_a_pdf_without_text_is_taken_for_a_scan(save: Save) -> None:
    assert "OCR" in refused(save("scan.pdf", pdf("", "")), DocumentNoTextError)


def test_a_pdf_with_a_password_is_refused(save: Save) -> None:
    assert "without a password" in refused(save("x.pdf", encrypted(pdf("x"), password="secret")), PdfEncryptedError)


@pytest.mark.parametrize("algorithm", ["RC4-40", "RC4-128", "AES-128", "AES-256"])
def test_a_pdf_that_is_encrypted_but_open_to_everybody_is_read(save: Save, algorithm: str) -> None:
    source = encrypted(pdf("Open words"), password="", algorithm=algorithm)
    assert extract(save("x.pdf", source)).text == "Open words"


def test_a_pdf_with_an_encryption_that_is_not_supported_is_called_encrypted(save: Save) -> None:
    source = encrypted(pdf("x"), password="").replace(b"/V 2", b"/V 9")
    refused(save("x.pdf", source), PdfEncryptedError)


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.8])
def test_a_truncated_pdf_is_broken_or_read_as_far_as_it_goes(save: Save, share: float) -> None:
    whole = pdf(*["Words of a page."] * 5)
    try:
        document = extract(save("half.pdf", whole[: int(len(whole) * share)]))
    except (PdfBrokenError, DocumentNoTextError):
        return
    assert "Words of a page." in document.text


@pytest.mark.parametrize(
    "source",
    [
        b"%PDF-",
        b"%PDF-1.7\n%%EOF",
        b"%PDF-1.7\n" + bytes(range(256)) * 100,
        b"%PDF-1.4\n" + b"<<" * 50_000,
        b"%PDF-1.4\n1 0 obj\n" + b"[" * 50_000 + b"\nendobj\ntrailer << /Root 1 0 R >>\nstartxref\n9\n%%EOF",
        pdf("x").replace(b"/Kids [5 0 R]", b"/Kids [2 0 R]"),
        pdf("x").replace(b"/Type /Catalog /Pages 2 0 R", b"/Type /Catalog /Pages 1 0 R"),
        pdf(),
        written({1: b"<< /Type /Catalog /Pages 2 0 R >>", 2: b"42"}),
    ],
    ids=["magic", "marks", "noise", "open", "nested", "tree loop", "wrong pages", "no pages", "no tree"],
)
def test_a_broken_pdf_is_refused_within_seconds(save: Save, source: bytes) -> None:
    within(10, save("broken.pdf", source), PdfBrokenError)


@pytest.mark.parametrize("offset", range(0, 900, 53))
def test_a_pdf_with_flipped_bytes_is_read_or_refused_but_nothing_else(save: Save, offset: int) -> None:
    damaged = bytearray(pdf("Some words.", "More words."))
    damaged[offset] ^= 0x5A
    try:
        extract(save("damaged.pdf", bytes(damaged)))
    except DocumentError:
        return


def test_a_decompression_bomb_is_refused(save: Save) -> None:
    deflated = zlib.compress(b" " * 200_000_000, 9)
    content = b"<< /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream" % (len(deflated), deflated)
    within(20, save("bomb.pdf", assembled([b""], extra={6: content})), PdfBrokenError)


def test_too_many_pages_are_refused(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf_module, "MAX_PAGES", 2)
    assert "has 3 pages, and the limit is 2" in refused(save("x.pdf", pdf("a", "b", "c")), DocumentTooLargeError)


def test_too_much_text_in_a_pdf_is_refused(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf_module, "MAX_CHARACTERS", 10)
    assert "characters" in refused(save("x.pdf", pdf("eight ch", "eight ch")), DocumentTooLargeError)


def test_the_reader_s_complaints_about_a_file_are_not_logged(
    save: Save, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    crooked = pdf("Words").replace(b"startxref\n", b"startxref\n1")
    with caplog.at_level(logging.WARNING):
        assert extract(save("crooked.pdf", crooked)).text == "Words"
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


# Files that are none


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    assert "does not exist: check the path" in refused(tmp_path / "none.txt", DocumentMissingError)
    (tmp_path / "file").touch()
    refused(tmp_path / "file" / "below", DocumentMissingError)
    refused(Path("a\x00b"), DocumentMissingError)


def test_a_name_with_control_characters_is_shown_harmlessly(tmp_path: Path) -> None:
    assert r"\x1b[2J\n" in refused(tmp_path / "\x1b[2J\n", DocumentMissingError)


def test_a_name_that_is_too_long_is_told(tmp_path: Path) -> None:
    assert "File name too long" in refused(tmp_path / ("x" * 300), DocumentUnreadableError)


def test_a_directory_is_told(tmp_path: Path) -> None:
    assert "is a directory" in refused(tmp_path, DocumentNotAFileError)


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "a device, a pipe" in refused(tmp_path / "pipe", DocumentNotAFileError)


def test_a_device_is_not_read() -> None:
    refused(Path("/dev/zero"), DocumentNotAFileError)


def test_a_loop_of_links_is_told(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path / "loop", DocumentUnreadableError)


def test_a_file_without_permission_is_told(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save("secret.txt", b"words")
    path.chmod(0)
    if os.access(path, os.R_OK):  # the superuser may read it

        def refuse(*_arguments: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)
    assert "(Permission denied): let the worker's user read it" in refused(path, DocumentUnreadableError)


@pytest.mark.parametrize("content", [b"", b" \n\t\r\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\xff\xfe \x00\n\x00"])
@pytest.mark.parametrize("name", ["empty.txt", "empty.md", "empty.html"])
def test_an_empty_file_is_told(save: Save, name: str, content: bytes) -> None:
    assert "is empty" in refused(save(name, content), DocumentEmptyError)


def test_an_empty_pdf_is_told(save: Save) -> None:
    refused(save("empty.pdf", b""), DocumentEmptyError)


@pytest.mark.parametrize(
    "content",
    [b"\x7fELF\x02\x01\x01\x00\x00", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", bytes(range(1, 256)) * 10],
    ids=["program", "image", "noise"],
)
@pytest.mark.parametrize("name", ["x.bin", "x.txt", "x.md", "x.html"])
def test_a_binary_file_is_told_whatever_its_name(save: Save, name: str, content: bytes) -> None:
    assert "holds binary data" in refused(save(name, content), DocumentBinaryError)


def test_a_file_over_the_limit_is_told_with_its_size(save: Save) -> None:
    with pytest.raises(DocumentTooLargeError, match="has 1,001 bytes, and the limit is 1,000") as caught:
        extract(save("big.txt", b"x" * 1001), max_bytes=1000)
    assert (caught.value.size, caught.value.limit, caught.value.unit) == (1001, 1000, "bytes")


def test_a_file_that_pretends_to_be_empty_is_not_read() -> None:
    assert "is empty" in refused(Path("/proc/self/environ"), DocumentEmptyError)


def test_a_file_that_grows_while_it_is_read_is_limited_too(save: Save) -> None:
    path = save("log.txt", b"x" * 100)
    with opened(str(path), [Path("/")], max_bytes=100) as source:
        path.write_bytes(b"x" * 101)
        with pytest.raises(DocumentTooLargeError):
            contents(source.descriptor, source.name, max_bytes=100)


def test_a_text_of_punctuation_holds_no_words(save: Save) -> None:
    assert "holds no words" in refused(save("dots.txt", b"... --- ..."), DocumentNoTextError)


def test_every_error_has_a_code_of_its_own() -> None:
    kinds: list[type[DocumentError]] = [DocumentError, *DocumentError.__subclasses__()]
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert all(kind.code.startswith("document_") for kind in kinds)
