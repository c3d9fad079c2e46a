"""About two hundred documents that are made to hurt whoever reads them, each by its file name."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tarfile
import zipfile
import zlib
from collections.abc import Iterator

from tests.unit.workers.pdfs import assembled, encrypted, pdf, written

SUFFIXES = ("txt", "md", "html", "pdf")


def hostile_documents() -> Iterator[tuple[str, bytes]]:
    yield from _pdfs()
    yield from _html()
    yield from _markdown()
    yield from _text()
    yield from _archives()
    yield from _noise()


def _pdfs() -> Iterator[tuple[str, bytes]]:
    whole = pdf("Some words of a page.", "And of another.", title="Mills")
    for share in range(5, 100, 10):
        yield f"cut-{share}.pdf", whole[: len(whole) * share // 100]
    for offset in range(0, 900, 47):
        damaged = bytearray(whole)
        damaged[offset] ^= 0x5A
        yield f"flipped-{offset}.pdf", bytes(damaged)
    nested = b"%PDF-1.4\n1 0 obj\n"
    yield "dicts.pdf", b"%PDF-1.4\n" + b"<<" * 50_000
    yield "arrays.pdf", nested + b"[" * 50_000 + b"\nendobj\ntrailer << /Root 1 0 R >>\nstartxref\n9\n%%EOF"
    yield "kids-loop.pdf", pdf("x").replace(b"/Kids [5 0 R]", b"/Kids [2 0 R]")
    yield "pages-loop.pdf", pdf("x").replace(b"/Pages 2 0 R", b"/Pages 1 0 R")
    yield "no-pages.pdf", pdf()
    yield "no-tree.pdf", written({1: b"<< /Type /Catalog /Pages 2 0 R >>", 2: b"42"})
    yield "count.pdf", pdf("x").replace(b"/Count 1", b"/Count 999999999")
    yield "xref-loop.pdf", whole.replace(b"trailer\n<<", b"trailer\n<< /Prev 9")
    yield "locked.pdf", encrypted(whole, password="secret")
    yield "magic.pdf", b"%PDF-"
    for size in (20_000_000, 200_000_000):
        deflated = zlib.compress(b" " * size, 9)
        stream = b"<< /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream" % (len(deflated), deflated)
        yield f"bomb-{size}.pdf", assembled([b""], extra={6: stream})
    twice = zlib.compress(zlib.compress(b"(x) Tj " * 10_000_000, 9), 9)
    stream = b"<< /Filter [/FlateDecode /FlateDecode] /Length %d >>\nstream\n%s\nendstream" % (len(twice), twice)
    yield "bomb-twice.pdf", assembled([b""], extra={6: stream})
    form = b"(x) Tj " * 20_000
    drawn = b"<< /Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /Font << /F1 3 0 R >> >> /Length %d >>"
    forms = {90: drawn % len(form) + b"\nstream\n%s\nendstream" % form}
    yield "forms.pdf", assembled([b"BT /F1 12 Tf " + b"/X Do " * 4000 + b"ET"], extra=forms)
    yield "operators.pdf", assembled([b"q " * 1_000_000])
    yield "numbers.pdf", assembled([b"BT " + b"9" * 1_000_000 + b" Tf ET"])


def _html() -> Iterator[tuple[str, bytes]]:
    yield "table.html", b"<html><table>" + b"x<!---->" * 500_000
    yield "attributes.html", b"<html " + b" ".join(b"a%d=1" % number for number in range(40_000)) + b">x"
    yield "punycode.html", b"<meta charset=punycode>" + b"a-" * 250_000
    yield "formatting.html", b"".join(b"<font a%d><p>x" % number for number in range(30_000))
    yield "misnested.html", b"<div><table></div></table>" * 50_000
    for tag in (b"div", b"b", b"a", b"p", b"table", b"select", b"svg", b"template", b"button", b"li", b"frameset"):
        yield f"open-{tag.decode()}.html", b"<%s>" % tag * 20_000 + b"x"
        yield f"closed-{tag.decode()}.html", b"<!doctype html>" + b"</%s>" % tag * 20_000 + b"x"
    for number, charset in enumerate((b"utf-7", b"utf-16", b"idna", b"zlib", b"unicode_escape", b"hz", b"\xff" * 40)):
        yield f"charset-{number}.html", b"<meta charset=%s>" % charset + b"~{" * 100_000
    yield "comment.html", b"<html><!--" + b"-" * 2_000_000
    yield "cdata.html", b"<svg><![CDATA[" * 50_000
    yield "entities.html", b"<p>" + b"&CounterClockwiseContourIntegral;" * 100_000
    yield "digits.html", b"<p>&#" + b"9" * 100_000 + b"; &#x" + b"f" * 100_000 + b";"
    yield "title.html", b"<title>" + b"w" * 2_000_000 + b"</title><p>words"
    yield "tag.html", b"<" + b"a" * 2_000_000
    yield "script.html", b"<script>" * 20_000


def _markdown() -> Iterator[tuple[str, bytes]]:
    yield "comment.md", b"x <!-- " + b"y" * 20_000_000
    yield "newlines.md", b"\n" * 5_000_000
    yield "reference.md", b"&#" + b"9" * 5000 + b"; words"
    yield "zeros.md", b"&#" + b"0" * 5000 + b"65; words"
    yield "heading.md", b"# " + b"w" * 2_000_000
    marks = [
        "[",
        "![",
        "](",
        "<",
        "`",
        "``",
        "*",
        "_",
        "**",
        "~~",
        ">",
        "-",
        "|",
        "#",
        "&#",
        "&amp;",
        "\\",
        "<!--",
        "-->",
        "<a",
        "[x]:",
        "[]((",
        "---",
        "===",
        "\ue000",
        "\ue0001\ue001",
        "1.",
        "+",
    ]
    for number, mark in enumerate(marks):
        yield f"mark-{number}.md", (mark * 100_000).encode()
        yield f"mark-{number}-lines.md", ((mark + " w\n") * 20_000).encode()
    yield "front.md", b"---\n" + b"a: b\n" * 200_000
    yield "links.md", b"[" * 50_000 + b"x" + b"](y)" * 50_000


def _text() -> Iterator[tuple[str, bytes]]:
    yield "word.txt", b"w" * 2_000_000
    yield "digits.txt", b"1," * 1_000_000
    yield "hyphens.txt", b"a-" * 1_000_000
    yield "blanks.txt", b" \n" * 1_000_000 + b"x"
    yield "sentences.txt", b"A. " * 500_000
    yield "distinct.txt", " ".join(f"w{number:x}" for number in range(400_000)).encode()
    yield "repeated.txt", b"same words again " * 400_000
    yield "wide.txt", ("\U0001f600 " * 500_000).encode()
    yield "surrogates.txt", b"\xed\xa0\x80 words " * 1000
    yield "utf16.txt", b"\xff\xfe" + b"\x00\xd8" * 100_000
    yield "marks.txt", ("\u0301" * 1_000_000 + "x").encode()
    yield "folding.txt", ("ß" * 500_000).encode()
    yield "escapes.txt", b"\x1b[2J words " * 50_000


def _archives() -> Iterator[tuple[str, bytes]]:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", b"\x00" * 20_000_000)
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../../etc/passwd"))
    plain = b"words " * 100_000
    made = {"zip": packed.getvalue(), "tar": tarred.getvalue(), "gz": gzip.compress(plain)}
    made |= {"bz2": bz2.compress(plain), "xz": lzma.compress(plain)}
    for name, content in made.items():
        for suffix in SUFFIXES:
            yield f"{name}.{suffix}", content


def _noise() -> Iterator[tuple[str, bytes]]:
    chance = random.Random(71)
    for number, suffix in enumerate(SUFFIXES * 3):
        yield f"noise-{number}.{suffix}", chance.randbytes(chance.randrange(1, 50_000))
        yield f"letters-{number}.{suffix}", bytes(chance.choices(b"<>&#[]()*_`!-\\/ ab\n", k=100_000))
