"""Reads a document as an ingest would: extract, chunk, analyse, and a summary streamed like a model's answer."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tailrace.workers.builtin.document.chunk import Chunk, chunk
from tailrace.workers.builtin.document.document import Document
from tailrace.workers.builtin.document.extract import extract
from tailrace.workers.builtin.document.keywords import keywords
from tailrace.workers.builtin.document.statistics import statistics
from tailrace.workers.builtin.document.summary import summarize
from tailrace.workers.builtin.document.tokens import tokens
from tailrace.workers.definition.context import Context
from tailrace.workers.definition.outputs import Outputs
from tailrace.workers.definition.pipeline import Pipeline, Step

CHUNK_WORDS: Final = 200
OVERLAP_WORDS: Final = 20
KEYWORDS: Final = 15
SUMMARY_SENTENCES: Final = 16
SUMMARY_WORDS: Final = 400
MAX_PATH_CHARS: Final = 4096


class DocumentInput(BaseModel):
    """``path`` is on the worker's host. ``pace_ms`` waits between tokens and between chunks, as a model would."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(min_length=1, max_length=MAX_PATH_CHARS)
    pace_ms: int = Field(0, ge=0, le=1000)

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if "\0" in value:
            raise ValueError("holds a NUL character, which no file name can have")
        if not Path(value).is_absolute():
            raise ValueError(f"{value!r} is not absolute; a worker may run anywhere, so begin the path with '/'")
        return value


async def extract_text(ctx: Context, given: DocumentInput) -> dict[str, Any]:
    """Reads a text, Markdown, HTML or PDF file."""
    document = await _document(ctx, given)
    await ctx.progress(1.0, f"read {document.size_bytes} bytes")
    return {
        "kind": document.kind,
        "title": document.title,
        "pages": document.pages,
        "characters": len(document.text),
        "size_bytes": document.size_bytes,
    }


async def chunk_text(ctx: Context, given: DocumentInput) -> dict[str, Any]:
    """Cuts its text into overlapping chunks."""
    text = (await _document(ctx, given)).text
    chunks = await asyncio.to_thread(chunk, text, max_words=CHUNK_WORDS, overlap_words=OVERLAP_WORDS)
    for number, each in enumerate(chunks, start=1):
        await ctx.emit("document.chunk", _without_text(each))
        if number * 100 // len(chunks) != (number - 1) * 100 // len(chunks):
            await ctx.progress(number / len(chunks), f"chunk {number} of {len(chunks)}")
        await _pace(given)
    return {"chunks": len(chunks), "max_words": CHUNK_WORDS, "overlap_words": OVERLAP_WORDS}


async def analyse(ctx: Context, given: DocumentInput) -> dict[str, Any]:
    """Counts, and finds the keywords."""
    text = (await _document(ctx, given)).text
    figures = asdict(await asyncio.to_thread(statistics, text))
    for name, value in figures.items():
        await ctx.metric(name, value)
    await ctx.progress(0.5, "counted")
    found = await asyncio.to_thread(keywords, text, KEYWORDS)
    await ctx.progress(1.0, "keywords found")
    return {"statistics": figures, "keywords": [asdict(keyword) for keyword in found]}


async def summarize_text(ctx: Context, given: DocumentInput, outputs: Outputs) -> dict[str, Any]:
    """Streams a summary as a model would; gives it beside what the steps before found."""
    text = (await _document(ctx, given)).text
    sentences = await asyncio.to_thread(summarize, text, sentences=SUMMARY_SENTENCES, max_words=SUMMARY_WORDS)
    summary = " ".join(sentences)
    streamed = 0
    for token in tokens(summary):
        await ctx.token(token)
        streamed += 1
        await _pace(given)
    await ctx.progress(1.0, f"{streamed} tokens")
    found = [output for output in outputs.values() if isinstance(output, dict)]
    return {**{name: value for output in found for name, value in output.items()}, "summary": summary}


DOCUMENT: Final = Pipeline(
    "document",
    (
        Step("extract", extract_text),
        Step("chunk", chunk_text),
        Step("analyse", analyse),
        Step("summarize", summarize_text),
    ),
    DocumentInput,
)


async def _document(ctx: Context, given: DocumentInput) -> Document:
    """The file, read once an attempt: its text may be far larger than what a step's output can hold."""
    if "document" not in ctx.memory:
        ctx.memory["document"] = await _extracted(ctx, given)
    document: Document = ctx.memory["document"]
    return document


async def _extracted(ctx: Context, given: DocumentInput) -> Document:
    def on_page(done: int, pages: int) -> None:
        # Cancelling does not reach into a thread, but this does: it is refused once the attempt has ended.
        ctx.from_thread(ctx.progress, done / pages, f"page {done} of {pages}")

    return await asyncio.to_thread(extract, Path(given.path), on_page=on_page)


async def _pace(given: DocumentInput) -> None:
    # Also when it is 0: a book has thousands of chunks, and others use this loop too.
    await asyncio.sleep(given.pace_ms / 1000)


def _without_text(each: Chunk) -> dict[str, Any]:
    return {"index": each.index, "words": each.words, "start": each.start, "end": each.end}
