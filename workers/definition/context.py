"""What a step is given: what it works on, and the ways to say how it goes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any, Final, Literal, ParamSpec, TypeVar

from tailrace.bus.errors import InvalidEventError
from tailrace.bus.model.event import LIFECYCLE_TYPES, TOKEN
from tailrace.bus.ownership.checkpoints import pack
from tailrace.workers.definition.backing import Backing
from tailrace.workers.definition.question import Schema, ask, name_of
from tailrace.workers.definition.surrogates import REPLACEMENT, joined
from tailrace.workers.errors import StepOverError

P = ParamSpec("P")
R = TypeVar("R")

Level = Literal["debug", "info", "warning", "error"]

# What sums of floats may be off by: ten times 0.1 is not 1.
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Context:
    """``input`` is an instance of the pipeline's input model, or the JSON object as submitted if it has none.

    ``restored`` is what an earlier try of this step gave to ``checkpoint``, on whichever worker that was; None if it
    gave nothing. ``memory`` lasts as long as this attempt, and all steps share it, but for those that are processes:
    for what is too large for a step's output, or not meant to be kept. After a take-over it is empty, so be ready to
    make its content again.

    Whatever is awaited here is where a pipeline is paused and where a cancellation arrives.
    """

    execution_id: str
    input: Any
    attempt: int
    backing: Backing
    step: str
    restored: Any = None
    memory: dict[str, Any] = field(default_factory=dict)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    asked: list[str] = field(default_factory=list)
    # The first half of a surrogate pair, waiting for the token with the other.
    _half: list[str] = field(default_factory=list, init=False, repr=False)
    # Calls of the step's thread that are under way.
    _calls: set[Future[Any]] = field(default_factory=set, init=False, repr=False)

    async def progress(self, fraction: float, message: str | None = None) -> None:
        """Say how much of this step is done, from 0 to 1. Raises ValueError for anything else."""
        if not -_ROUNDING <= fraction <= 1 + _ROUNDING:
            raise ValueError(f"fraction is {fraction}: progress goes from 0 to 1")
        data: dict[str, Any] = {"progress": round(min(1.0, max(0.0, fraction)), 6)}
        if message is not None:
            data["message"] = message
        await self.backing.emit("step.progress", data)

    async def token(self, text: str, *, meta: dict[str, Any] | None = None) -> None:
        """Give out a piece of text as it comes; the pieces put together are the text. Those of equal ``meta`` merge.

        A piece may end within a surrogate pair, as JavaScript and some models cut it: that half goes with the next
        piece. A half that stays alone is replaced by U+FFFD.
        """
        whole, half = joined("".join(self._half) + text)
        self._half[:] = half
        if whole:
            await self.backing.emit(TOKEN, {"text": whole}, meta)

    async def log(self, text: str, *, stream: Literal["stdout", "stderr"] | None = None, level: Level = "info") -> None:
        """Say a line; ``stream`` in place of a level when it is a program's output."""
        data = {"text": text, "level": level} if stream is None else {"text": text, "stream": stream}
        await self.backing.emit("log", data)

    async def metric(self, name: str, value: float, unit: str | None = None) -> None:
        """State a figure. Raises ValueError for one that is not finite, which JSON cannot carry."""
        if not math.isfinite(value):
            raise ValueError(f"value is {value}: the metric {name!r} must be finite")
        data: dict[str, Any] = {"name": name, "value": value}
        if unit is not None:
            data["unit"] = unit
        await self.backing.emit("metric", data)

    async def quality(self, name: str, score: float, passed: bool) -> None:  # noqa: FBT001 - the check's outcome, not a switch
        """State the outcome of a quality check. Raises ValueError for a score that is not finite."""
        if not math.isfinite(score):
            raise ValueError(f"score is {score}: that of the check {name!r} must be finite")
        await self.backing.emit("quality.check", {"name": name, "score": score, "passed": passed})

    async def emit(self, event_type: str, data: Any = None, *, meta: dict[str, Any] | None = None) -> None:
        """Emit an event of the step's own; ``meta`` is what is said about it, such as the ``mode`` it belongs to.

        Raises InvalidEventError; also for the life cycle, which is the worker's.
        """
        if event_type in LIFECYCLE_TYPES:
            raise InvalidEventError(
                "type", f"'{event_type}' is appended by the worker; return from the step or raise to end it"
            )
        await self.backing.emit(event_type, data, meta)

    async def checkpoint(self, state: Any) -> None:
        """Keep how far this step is, in place of what it kept before: who tries it again finds it as ``restored``.

        ``state`` is made of what an output may be made of, at most 1 MiB. Returns when it is kept, and appends
        ``checkpoint.saved``. Raises InvalidInputError.
        """
        packed = pack(state, field="state")
        await self.backing.save(packed)
        await self.backing.emit("checkpoint.saved", {"bytes": len(packed)})

    async def ask(self, question: Any, schema: Schema | None = None, *, key: str | None = None) -> Any:
        """Ask a person who may control this execution, and wait for the answer, as long as it takes.

        Appends ``review.required``; the answer comes as the signal ``answer:<ask>``. With a ``schema`` (JSON Schema,
        or a type such as a pydantic model, of which an instance is returned) an answer that does not fit is told in
        ``review.rejected``, and waited on. Nothing is asked twice: not when the step is tried again, nor on another
        worker. For that, questions of a step are told apart by their order, or by ``key`` where that may change.

        The time it takes does not count against timeouts. Raises ValueError for a schema that cannot be used, and for
        a key that this try has used.
        """
        unnamed = sum(each.rpartition(".")[2].isdecimal() for each in self.asked)
        name = name_of(self.step, unnamed + 1 if key is None else key)
        if name in self.asked:
            raise ValueError(f"key: {key!r} was asked by this step already; a key names one question")
        self.asked.append(name)
        return await ask(self.backing, name, question, schema)

    def from_thread(self, call: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do the same from a plain function, which runs in a thread: ``ctx.from_thread(ctx.progress, 0.5)``.

        Raises RuntimeError in the event loop's own thread, which it would block for ever; StepOverError when the step
        is over, also while it waits.
        """
        if _running_loop() is self.loop:
            raise RuntimeError("from_thread is for plain functions: an async one awaits the call itself")

        async def awaited() -> R:
            return await call(*args, **kwargs)

        calling = asyncio.run_coroutine_threadsafe(awaited(), self.loop)
        self._calls.add(calling)
        try:
            return calling.result()
        except CancelledError:
            raise StepOverError(self.step) from None
        finally:
            self._calls.discard(calling)


async def flush_token(context: Context) -> None:
    """Give out what waits for a next token; there will be none."""
    if half := context._half:  # noqa: SLF001 - here, so that it is no call for steps
        half.clear()
        await context.backing.emit(TOKEN, {"text": REPLACEMENT})


def end_calls(context: Context) -> None:
    """Let a thread that waits for a call return: its step is over."""
    for call in list(context._calls):  # noqa: SLF001 - as above
        call.cancel()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
