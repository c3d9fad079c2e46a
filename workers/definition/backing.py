"""What stands behind a step's context: the worker itself, or a pipe to it from the step's own process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a question; ``by`` says who gave it, if that is known."""

    data: Any
    by: str | None = None


class Backing(Protocol):
    """Raises StepOverError once this attempt at the step is over: a thread may outlive its timeout."""

    @property
    def max_event_bytes(self) -> int:
        """How large the data of an event may be, as JSON."""

    async def emit(self, event_type: str, data: Any, meta: dict[str, Any] | None = None) -> None:
        """Raises InvalidEventError."""

    async def save(self, packed: bytes) -> None:
        """Keep the step's own state, in place of the one before."""

    async def open_question(self, ask: str, question: Any, schema: dict[str, Any] | None) -> Answer | None:
        """State it, if that was not done before; the answer that was accepted before, if there is one."""

    async def next_answer(self, ask: str) -> Answer:
        """Wait for the next answer, as long as it takes."""

    async def reject(self, ask: str, answer: Answer, problems: list[str]) -> None: ...

    async def resolve(self, ask: str, answer: Answer) -> None:
        """Keep the answer, so that the question is not asked again."""
