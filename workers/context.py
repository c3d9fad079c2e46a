"""What a step is given: what it works on, and the ways to say how it goes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, ParamSpec, Protocol, TypeVar

from bus.errors import InvalidEventError
from bus.event import LIFECYCLE_TYPES, TOKEN

P = ParamSpec("P")
R = TypeVar("R")

Level = Literal["debug", "info", "warning", "error"]

# What sums of floats may be off by: ten times 0.1 is not 1.
_ROUNDING: Final = 1e-9


class Emits(Protocol):
    """Takes events, in order; waits only while its buffer is full. A bus.Execution is one."""

    async def emit(
        self, event_type: str, data: Any = None, *, step: str | None = None, meta: dict[str, Any] | None = None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Context:
    """``input`` is an instance of the pipeline's input model, or the JSON object as submitted if it has none.

    ``memory`` lasts as long as this attempt, and all steps share it: for what is too large for a step's output, or
    not meant to be kept. After a take-over it is empty, so be ready to make its content again.
    """

    execution_id: str
    input: Any
    attempt: int
    emits: Emits
    step: str | None = None
    memory: dict[str, Any] = field(default_factory=dict)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def in_step(self, name: str) -> Context:
        return replace(self, step=name)

    async def progress(self, fraction: float, message: str | None = None) -> None:
        """Say how much of this step is done, from 0 to 1. Raises ValueError for anything else."""
        if not -_ROUNDING <= fraction <= 1 + _ROUNDING:
            raise ValueError(f"fraction is {fraction}: progress goes from 0 to 1")
        data: dict[str, Any] = {"progress": round(min(1.0, max(0.0, fraction)), 6)}
        if message is not None:
            data["message"] = message
        await self._emit("step.progress", data)

    async def token(self, text: str) -> None:
        """Give out a piece of text as it comes; the pieces put together are the text."""
        if text:
            await self._emit(TOKEN, {"text": text})

    async def log(self, text: str, *, stream: Literal["stdout", "stderr"] | None = None, level: Level = "info") -> None:
        """Say a line; ``stream`` in place of a level when it is a program's output."""
        await self._emit("log", {"text": text, "level": level} if stream is None else {"text": text, "stream": stream})

    async def metric(self, name: str, value: float, unit: str | None = None) -> None:
        """State a figure. Raises ValueError for one that is not finite, which JSON cannot carry."""
        if not math.isfinite(value):
            raise ValueError(f"value is {value}: the metric {name!r} must be finite")
        data: dict[str, Any] = {"name": name, "value": value}
        if unit is not None:
            data["unit"] = unit
        await self._emit("metric", data)

    async def quality(self, name: str, score: float, passed: bool) -> None:  # noqa: FBT001 - the check's outcome, not a switch
        """State the outcome of a quality check. Raises ValueError for a score that is not finite."""
        if not math.isfinite(score):
            raise ValueError(f"score is {score}: that of the check {name!r} must be finite")
        await self._emit("quality.check", {"name": name, "score": score, "passed": passed})

    async def emit(self, event_type: str, data: Any = None) -> None:
        """Emit an event of the step's own. Raises InvalidEventError; also for the life cycle, which is the worker's."""
        if event_type in LIFECYCLE_TYPES:
            raise InvalidEventError(
                "type", f"'{event_type}' is appended by the worker; return from the step or raise to end it"
            )
        await self._emit(event_type, data)

    def from_thread(self, call: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do the same from a plain function, which runs in a thread: ``ctx.from_thread(ctx.progress, 0.5)``."""

        async def awaited() -> R:
            return await call(*args, **kwargs)

        return asyncio.run_coroutine_threadsafe(awaited(), self.loop).result()

    async def _emit(self, event_type: str, data: Any) -> None:
        await self.emits.emit(event_type, data, step=self.step)
