"""What the viewers have seen so far, put together. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from tailrace.cli.client.frame import Received, position
from tailrace.cli.text.safe import paragraph

# Words of a summary, of which the pipeline streams one at a time: at most, and per sentence before it is known.
MOST_TOKENS: Final = 400
SUMMARY_SENTENCES: Final = 16
# A chunk has 180 words that are not in the one before.
BYTES_PER_CHUNK: Final = 1100
BYTES_PER_WORD: Final = 6
# Of a PDF's bytes most are fonts and pictures.
PDF_TEXT_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Expectation:
    """How much a document gives to do: a paced unit is a chunk or a word of the summary."""

    chunks: int
    tokens: int

    @classmethod
    def of_file(cls, size_bytes: int, *, is_pdf: bool) -> Expectation:
        text_bytes = int(size_bytes * PDF_TEXT_SHARE) if is_pdf else size_bytes
        chunks = max(1, text_bytes // BYTES_PER_CHUNK)
        return cls(chunks, max(1, min(MOST_TOKENS // 2, text_bytes // BYTES_PER_WORD)))

    def pace_ms(self, seconds: float) -> int:
        """How long to wait after each unit for the whole to last so long, as far as the pipeline allows."""
        return max(1, min(1000, round(seconds * 1000 / (self.chunks + self.tokens))))


@dataclass(slots=True)
class Story:
    """``steps`` are done to a share from 0 to 1. Told by many viewers, it believes each event once."""

    expectation: Expectation
    steps: dict[str, float]
    summary: str = ""
    events: int = 0
    delivered: int = 0
    tokens: int = 0
    keywords: list[str] = field(default_factory=list)
    title: str | None = None
    status: str = "queued"
    failure: str | None = None
    _last: tuple[int, int] = (0, 0)

    @property
    def share(self) -> float:
        """How much of the paced work has been seen, from 0 to 1."""
        expected = self.expectation
        chunked = self.steps.get("chunk", 0.0) * expected.chunks
        return min(1.0, (chunked + min(self.tokens, expected.tokens)) / (expected.chunks + expected.tokens))

    def take(self, event: Received) -> bool:
        """Note an event; False when another viewer was first."""
        self.delivered += 1
        at = position(event.id)
        if at is None or at <= self._last:
            return False
        self._last = at
        self.events += 1
        self._read(event)
        return True

    def _read(self, event: Received) -> None:
        data: dict[str, Any] = event.data if isinstance(event.data, dict) else {}
        step = event.step or ""
        match event.type:
            case "execution.started":
                self.status = "running"
            case "execution.completed":
                self.status = "completed"
            case "execution.failed" | "execution.cancelled" | "execution.timed_out":
                self.status = event.type.removeprefix("execution.")
                self.failure = paragraph(str(data.get("message") or data.get("reason") or self.status))
            case "step.progress" if isinstance(data.get("progress"), int | float):
                self.steps[step] = min(1.0, max(0.0, float(data["progress"])))
            case "step.completed":
                self.steps[step] = 1.0
                self._learn(step, data.get("output"))
            case "token":
                text = str(data.get("text", ""))
                self.tokens += max(1, len(text.split()))
                self.summary += paragraph(text)
                if self.steps.get(step, 0.0) < 1.0:
                    self.steps[step] = min(0.99, self.tokens / self.expectation.tokens)

    def _learn(self, step: str, output: Any) -> None:
        if not isinstance(output, dict):
            return
        if step == "chunk" and isinstance(output.get("chunks"), int):
            self.expectation = Expectation(max(1, output["chunks"]), self.expectation.tokens)
        elif step == "analyse":
            self._expect_summary(output.get("statistics"))
            self.keywords = _phrases(output.get("keywords"))

    def _expect_summary(self, figures: Any) -> None:
        if isinstance(figures, dict):
            words, length = figures.get("words"), figures.get("average_sentence_words")
            if isinstance(words, int) and isinstance(length, int | float):
                expected = min(words, MOST_TOKENS, int(SUMMARY_SENTENCES * length))
                self.expectation = Expectation(self.expectation.chunks, max(1, expected))


def _phrases(keywords: Any) -> list[str]:
    if not isinstance(keywords, list):
        return []
    return [paragraph(str(each["phrase"])) for each in keywords if isinstance(each, dict) and "phrase" in each]
