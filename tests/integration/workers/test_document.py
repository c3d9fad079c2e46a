from __future__ import annotations

from pathlib import Path

import msgpack
import pytest

from tailrace.bus import Bus
from tests.integration.workers.watching import run, types_of, until, watch, working
from tests.unit.workers.pdfs import encrypted, pdf

pytestmark = pytest.mark.anyio

SENTENCES = [
    "A river carries water from the mountains to the sea.",
    "The mill takes its power from the water of the river.",
    "What the mill has used, the tailrace carries away.",
    "Every stream that joins the river makes the mill stronger.",
    "In a dry summer the river is low and the mill stands still.",
]
TEXT = "\n\n".join(" ".join(SENTENCES) for _ in range(40))
HTML = f"<!doctype html><title>Mills</title><p>{'</p><p>'.join(TEXT.split(chr(10) * 2))}</p>"


def in_format(kind: str) -> bytes:
    match kind:
        case "pdf":
            return pdf(*(sentence * 3 for sentence in SENTENCES), title="Mills")
        case "html":
            return HTML.encode()
        case "markdown":
            return f"# Mills\n\n{TEXT}".encode()
        case _:
            return TEXT.encode()


@pytest.mark.parametrize(("kind", "suffix"), [("text", "txt"), ("markdown", "md"), ("html", "html"), ("pdf", "pdf")])
async def test_a_real_file_becomes_figures_keywords_and_a_summary(
    bus: Bus, tmp_path: Path, kind: str, suffix: str
) -> None:
    file = tmp_path / f"mills.{suffix}"
    file.write_bytes(in_format(kind))
    async with working(bus):
        entries = await run(bus, "document", {"path": str(file)})
    assert types_of(entries)[:2] == ["execution.queued", "execution.started"]
    completed = [entry.step for entry in entries if entry.type == "step.completed"]
    assert completed == ["extract", "chunk", "analyse", "summarize"]
    assert entries[-1].type == "execution.completed"
    result = entries[-1].data["result"]
    assert result["kind"] == kind
    assert result["pages"] == (5 if kind == "pdf" else None)
    assert "river" in {keyword["phrase"] for keyword in result["keywords"]}
    assert result["statistics"]["words"] > 100
    tokens = [entry.data["text"] for entry in entries if entry.type == "token"]
    assert "".join(tokens) == result["summary"] != ""
    chunks = [entry.data for entry in entries if entry.type == "document.chunk"]
    assert [chunk["index"] for chunk in chunks] == list(range(result["chunks"]))


async def test_a_pdf_tells_each_page_as_it_is_read(bus: Bus, tmp_path: Path) -> None:
    file = tmp_path / "mills.pdf"
    file.write_bytes(in_format("pdf"))
    async with working(bus):
        entries = await run(bus, "document", {"path": str(file)})
    told = [entry.data for entry in entries if entry.type == "step.progress" and entry.step == "extract"]
    assert [each["message"] for each in told[:5]] == [f"page {n} of 5" for n in range(1, 6)]
    assert [each["progress"] for each in told] == [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]


async def test_steps_outputs_are_kept_as_checkpoints_that_expire(bus: Bus, tmp_path: Path) -> None:
    file = tmp_path / "mills.txt"
    file.write_text(TEXT)
    async with working(bus):
        execution_id = await bus.submit("document", {"path": str(file)})
        entries = await watch(bus, execution_id)
    key = bus.keys.checkpoints(execution_id)
    assert set(await bus.checkpoints.load(execution_id)) == {"extract", "chunk", "analyse", "summarize"}
    raw = await bus.commands.command("HGET", key, "summarize")
    assert msgpack.unpackb(raw) == entries[-1].data["result"]
    assert 0 < await bus.commands.command("TTL", key) <= bus.settings.retention.ended_state_seconds


async def test_a_pace_makes_each_token_an_event_of_its_own(bus: Bus, tmp_path: Path) -> None:
    """So that a demonstration has the time to kill a gateway half way."""
    file = tmp_path / "short.txt"
    file.write_text("A river carries water from the mountains to the sea.")
    async with working(bus):
        entries = await run(bus, "document", {"path": str(file), "pace_ms": 60})
    tokens = [entry.data["text"] for entry in entries if entry.type == "token"]
    assert len(tokens) == 10


PAGES = 2000
BROKEN_PDF = b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\ntrailer\n<< /Root 1 0 R"


@pytest.mark.parametrize(
    ("name", "content", "reason", "sentence"),
    [
        ("gone.txt", None, "document_missing", "does not exist"),
        ("empty.txt", b"", "document_empty", "is empty"),
        ("blank.txt", b" \n\n\t ", "document_empty", "is empty"),
        ("picture.txt", bytes(range(256)) * 64, "document_binary", "holds binary data"),
        ("broken.pdf", BROKEN_PDF, "document_pdf_broken", "is not a readable PDF"),
        ("fake.pdf", b"hello", "document_pdf_broken", "is not a readable PDF"),
        ("locked.pdf", encrypted(pdf("secret"), password="x"), "document_pdf_encrypted", "is an encrypted PDF"),
        ("scan.pdf", pdf(""), "document_no_text", "is a PDF without text"),
    ],
)
async def test_a_file_that_cannot_be_used_ends_in_a_sentence_that_names_it(  # noqa: PLR0917 - pytest names them
    bus: Bus, tmp_path: Path, name: str, content: bytes | None, reason: str, sentence: str
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    async with working(bus):
        entries = await run(bus, "document", {"path": str(file)})
    assert types_of(entries)[-2:] == ["step.failed", "execution.failed"]
    assert entries[-2].step == "extract"
    for entry in entries[-2:]:
        assert entry.data["reason"] == reason
        assert sentence in entry.data["message"]
        assert name in entry.data["message"]


async def test_a_directory_is_no_document(bus: Bus, tmp_path: Path) -> None:
    async with working(bus):
        entries = await run(bus, "document", {"path": str(tmp_path)})
    assert entries[-1].data["reason"] == "document_not_a_file"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "give one of 'path', 'content' and 'content_base64'"),
        ({"path": "/a", "content": "x"}, "give one of 'path', 'content' and 'content_base64'"),
        ({"content_base64": "%"}, "input.content_base64: is not base64"),
        ({"path": "report.txt"}, "input.path: 'report.txt' is not absolute"),
        ({"path": "/a\0b"}, "input.path: holds a NUL character"),
        ({"path": "/a", "pace_ms": 1001}, "input.pace_ms: Input should be less than or equal to 1000"),
        ({"path": "/a", "speed": 1}, "input.speed: Extra inputs are not permitted"),
    ],
)
async def test_input_that_does_not_fit_ends_in_a_sentence_that_names_the_field(
    bus: Bus, given: dict[str, object], sentence: str
) -> None:
    async with working(bus):
        entries = await run(bus, "document", given)
    assert types_of(entries) == ["execution.queued", "execution.started", "execution.failed"]
    assert entries[-1].data["reason"] == "invalid_input"
    assert sentence in entries[-1].data["message"]


async def test_stopping_the_worker_does_not_wait_for_a_thread_that_reads_a_long_pdf(bus: Bus, tmp_path: Path) -> None:
    file = tmp_path / "long.pdf"
    file.write_bytes(pdf(*(f"Page {n} speaks of the river and the mill." for n in range(PAGES))))
    async with working(bus, drain_seconds=0) as worker:
        execution_id = await bus.submit("document", {"path": str(file)})
        await watch(bus, execution_id, until="step.progress")
        worker.stop()
        await until(lambda: not worker.running)
        entries = await watch(bus, execution_id, until="execution.retrying")
    assert entries[-1].data["reason"] == "worker_stopped"
    told = [entry for entry in entries if entry.type == "step.progress"]
    assert len(told) < PAGES
