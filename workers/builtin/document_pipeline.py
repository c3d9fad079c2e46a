"""Reads a document as an ingest would: extract, chunk, analyse, and a summary streamed like a model's answer."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tailrace.workers.builtin.document.parsers import Extracted, Parsers
from tailrace.workers.builtin.document.source import Source, given_by_value, opened
from tailrace.workers.builtin.document.tokens import tokens
from tailrace.workers.definition.context import Context
from tailrace.workers.definition.outputs import Outputs
from tailrace.workers.definition.pipeline import Pipeline, Step
from tailrace.workers.definition.step_registry import StepRegistry

CHUNK_WORDS: Final = 200
OVERLAP_WORDS: Final = 20
KEYWORDS: Final = 15
SUMMARY_SENTENCES: Final = 16
SUMMARY_WORDS: Final = 400
MAX_PATH_CHARS: Final = 4096
MAX_NAME_CHARS: Final = 255
STEP_NAMES: Final = ("extract", "chunk", "analyse", "summarize")


class DocumentInput(BaseModel):
    """A document by ``path`` or by value; ``name`` is the content's, for its suffix.

    ``path`` is on the worker's host, in a folder that its operator named. ``pace_ms`` waits between tokens and between
    chunks, as a model would.
    """

    model_config = ConfigDict(extra="forbid")

    path: str | None = Field(None, min_length=1, max_length=MAX_PATH_CHARS)
    content: str | None = None
    content_base64: str | None = None
    name: str = Field("document", min_length=1, max_length=MAX_NAME_CHARS)
    pace_ms: int = Field(0, ge=0, le=1000)

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if "\0" in value:
            raise ValueError("holds a NUL character, which no file name can have")
        if not Path(value).is_absolute():
            raise ValueError(f"{value!r} is not absolute; a worker may run anywhere, so begin the path with '/'")
        return value

    @field_validator("content_base64")
    @classmethod
    def _base64(cls, value: str | None) -> str | None:
        try:
            base64.b64decode(value or "", validate=True)
        except ValueError as error:
            raise ValueError(f"is not base64 ({error})") from None
        return value

    @property
    def bytes_given(self) -> bytes:
        if self.content is not None:
            return self.content.encode(errors="replace")
        return base64.b64decode(self.content_base64 or "")

    @model_validator(mode="after")
    def _one_document(self) -> Self:
        if sum(each is not None for each in (self.path, self.content, self.content_base64)) != 1:
            raise ValueError("give one of 'path', 'content' and 'content_base64'")
        return self


@dataclass(frozen=True, slots=True)
class DocumentSteps:
    """``roots`` are the folders that documents may be read from by path; without any, they come by value only."""

    parsers: Parsers
    roots: Sequence[Path] = ()

    @property
    def _by_name(self) -> dict[str, Callable[..., Any]]:
        steps: list[Callable[..., Any]] = [self.extract, self.chunk, self.analyse, self.summarize]
        return dict(zip(STEP_NAMES, steps, strict=True))

    def pipeline(self) -> Pipeline:
        return Pipeline("document", tuple(Step(name, run) for name, run in self._by_name.items()), DocumentInput)

    def registry(self) -> StepRegistry:
        """The same steps, for pipelines from JSON."""
        steps = StepRegistry()
        for name, run in self._by_name.items():
            steps.add(f"document.{name}", run)
        return steps

    async def extract(self, ctx: Context, given: DocumentInput) -> dict[str, Any]:
        """Reads a text, Markdown, HTML or PDF document."""
        document = await self._document(ctx, given)
        await ctx.progress(1.0, f"read {document.size_bytes} bytes")
        return {
            "kind": document.kind,
            "title": document.title,
            "pages": document.pages,
            "characters": document.characters,
            "size_bytes": document.size_bytes,
        }

    async def chunk(self, ctx: Context, given: DocumentInput) -> dict[str, Any]:
        """Cuts its text into overlapping chunks."""
        document = await self._document(ctx, given)
        chunks = await self.parsers.chunks(document, max_words=CHUNK_WORDS, overlap_words=OVERLAP_WORDS)
        for index, (words, start, end) in enumerate(chunks):
            await ctx.emit("document.chunk", {"index": index, "words": words, "start": start, "end": end})
            if (index + 1) * 100 // len(chunks) != index * 100 // len(chunks):
                await ctx.progress((index + 1) / len(chunks), f"chunk {index + 1} of {len(chunks)}")
            await _pace(given)
        return {"chunks": len(chunks), "max_words": CHUNK_WORDS, "overlap_words": OVERLAP_WORDS}

    async def analyse(self, ctx: Context, given: DocumentInput) -> dict[str, Any]:
        """Counts, and finds the keywords."""
        document = await self._document(ctx, given)
        figures = await self.parsers.statistics(document)
        for name, value in figures.items():
            await ctx.metric(name, value)
        await ctx.progress(0.5, "counted")
        found = await self.parsers.keywords(document, KEYWORDS)
        await ctx.progress(1.0, "keywords found")
        return {"statistics": figures, "keywords": found}

    async def summarize(self, ctx: Context, given: DocumentInput, outputs: Outputs) -> dict[str, Any]:
        """Streams a summary as a model would; gives it beside what the steps before found."""
        document = await self._document(ctx, given)
        sentences = await self.parsers.summarize(document, sentences=SUMMARY_SENTENCES, max_words=SUMMARY_WORDS)
        summary = " ".join(sentences)
        streamed = 0
        for token in tokens(summary):
            await ctx.token(token)
            streamed += 1
            await _pace(given)
        await ctx.progress(1.0, f"{streamed} tokens")
        found = [output for output in outputs.values() if isinstance(output, dict)]
        return {**{name: value for output in found for name, value in output.items()}, "summary": summary}

    async def _document(self, ctx: Context, given: DocumentInput) -> Extracted:
        """The document, read once an attempt, whichever of its steps comes first."""
        async with ctx.memory.setdefault("document_turn", asyncio.Lock()):
            if "document" not in ctx.memory:
                ctx.memory["document"] = await self._extracted(ctx, given)
        document: Extracted = ctx.memory["document"]
        return document

    async def _extracted(self, ctx: Context, given: DocumentInput) -> Extracted:
        # Told from here, not from within the reading: what is paused meanwhile must not cost the parser its time.
        pages: asyncio.Queue[tuple[int, int] | None] = asyncio.Queue()
        async with self._source(given) as source:
            reading = asyncio.create_task(
                self.parsers.extract(source, lambda done, of: pages.put_nowait((done, of))), name="document:extract"
            )
            reading.add_done_callback(lambda _: pages.put_nowait(None))
            try:
                while (page := await pages.get()) is not None:
                    await ctx.progress(page[0] / page[1], f"page {page[0]} of {page[1]}")
                return await reading
            finally:
                reading.cancel()
                await asyncio.wait([reading])

    @contextlib.asynccontextmanager
    async def _source(self, given: DocumentInput) -> AsyncIterator[Source]:
        made = given_by_value(given.bytes_given, given.name) if given.path is None else opened(given.path, self.roots)
        # A disk that is far away must not stop the loop.
        source = await asyncio.to_thread(made.__enter__)
        try:
            yield source
        finally:
            made.__exit__(None, None, None)


async def _pace(given: DocumentInput) -> None:
    # Also when it is 0: a book has thousands of chunks, and others use this loop too.
    await asyncio.sleep(given.pace_ms / 1000)
