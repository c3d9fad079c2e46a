"""The context for plain functions: the same calls, without await."""

from __future__ import annotations

from typing import Any, Literal

from tailrace.workers.definition.context import Context, Level
from tailrace.workers.definition.question import Schema


class PlainContext:
    """Given to a plain function whose first parameter is annotated with it. Every call does what Context's does.

    It waits in the function's own thread; a cancellation or timeout shows as StepOverError at the next call.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def execution_id(self) -> str:
        """As ``Context.execution_id``."""
        return self._context.execution_id

    @property
    def input(self) -> Any:
        """As ``Context.input``."""
        return self._context.input

    @property
    def attempt(self) -> int:
        """As ``Context.attempt``."""
        return self._context.attempt

    @property
    def step(self) -> str:
        """As ``Context.step``."""
        return self._context.step

    @property
    def restored(self) -> Any:
        """As ``Context.restored``."""
        return self._context.restored

    @property
    def memory(self) -> dict[str, Any]:
        """As ``Context.memory``."""
        return self._context.memory

    def progress(self, fraction: float, message: str | None = None) -> None:
        """As ``Context.progress``."""
        self._context.from_thread(self._context.progress, fraction, message)

    def token(self, text: str, *, meta: dict[str, Any] | None = None) -> None:
        """As ``Context.token``."""
        self._context.from_thread(self._context.token, text, meta=meta)

    def log(self, text: str, *, stream: Literal["stdout", "stderr"] | None = None, level: Level = "info") -> None:
        """As ``Context.log``."""
        self._context.from_thread(self._context.log, text, stream=stream, level=level)

    def metric(self, name: str, value: float, unit: str | None = None) -> None:
        """As ``Context.metric``."""
        self._context.from_thread(self._context.metric, name, value, unit)

    def quality(self, name: str, score: float, passed: bool) -> None:  # noqa: FBT001 - see Context.quality
        """As ``Context.quality``."""
        self._context.from_thread(self._context.quality, name, score, passed)

    def emit(self, event_type: str, data: Any = None, *, meta: dict[str, Any] | None = None) -> None:
        """As ``Context.emit``."""
        self._context.from_thread(self._context.emit, event_type, data, meta=meta)

    def checkpoint(self, state: Any) -> None:
        """As ``Context.checkpoint``."""
        self._context.from_thread(self._context.checkpoint, state)

    def ask(self, question: Any, schema: Schema | None = None, *, key: str | None = None) -> Any:
        """As ``Context.ask``."""
        return self._context.from_thread(self._context.ask, question, schema, key=key)
