"""What the modules of the providers share: a streamed answer as the events of a step. Imports no provider's SDK."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from tailrace.workers.definition.context import Context
from tailrace.workers.errors import WorkerError

# The first text goes out at once; then at most thirty entries a second, however small the pieces of the model are.
_SECONDS_BETWEEN_ENTRIES: Final = 1 / 30
# A provider that asks for more has no room today: the step fails and says so.
_MOST_SECONDS_TO_WAIT: Final = 300.0
_MOST_SECONDS_UNTOLD: Final = 8.0
_WORTH_ANOTHER_TRY: Final = (408, 409, 429)
_SERVER_ERROR: Final = 500
_MARK: Final = "tailrace.completion"


class CompletionError(WorkerError):
    """The provider said within its stream that the answer failed, or its stream ended before the answer did."""

    code = "completion_failed"


@dataclass(slots=True)
class Answer:
    """What has come of an answer. A provider's module writes to it, and yields after each piece of its stream."""

    said: dict[str, list[str]] = field(default_factory=lambda: {"token": [], "reasoning": []})
    refused: list[str] = field(default_factory=list)
    calls: dict[Any, dict[str, str]] = field(default_factory=dict)
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    # Runs of one type, in the order in which they came.
    waiting: list[tuple[str, list[str]]] = field(default_factory=list)

    def text(self, piece: str | None) -> None:
        self._say("token", piece)

    def reasoning(self, piece: str | None) -> None:
        self._say("reasoning", piece)

    def refusal(self, piece: str | None) -> None:
        if piece:
            self.refused.append(piece)

    def call(self, key: Any, *, id: str | None = None, name: str | None = None, arguments: str | None = None) -> None:  # noqa: A002 - the event's name for it
        """A piece of a tool call; what comes in several pieces is put together."""
        call = self.calls.setdefault(key, {"id": "", "name": "", "arguments": ""})
        call["id"] += id or ""
        call["name"] += name or ""
        call["arguments"] += arguments or ""

    def count(self, usage: Mapping[str, Any]) -> None:
        """Later figures replace earlier ones of the same name."""
        self.usage = {**(self.usage or {}), **usage}

    def _say(self, event_type: str, piece: str | None) -> None:
        if not piece:
            return
        self.said[event_type].append(piece)
        if not self.waiting or self.waiting[-1][0] != event_type:
            self.waiting.append((event_type, []))
        self.waiting[-1][1].append(piece)

    async def tell_next(self, ctx: Context) -> None:
        event_type, pieces = self.waiting.pop(0)
        if event_type == "token":
            await ctx.token("".join(pieces))
        else:
            await ctx.emit(event_type, {"text": "".join(pieces)})

    async def tell_end(self, ctx: Context) -> dict[str, Any]:
        calls = list(self.calls.values())
        for call in calls:
            await ctx.emit("tool.call", call)
        refusal = "".join(self.refused) or None
        if refusal is not None:
            await ctx.emit("completion.refusal", {"text": refusal})
        end = {"finish_reason": self.finish_reason, "usage": self.usage}
        await ctx.emit("completion.finished", end)
        text, reasoning = ("".join(self.said[each]) for each in ("token", "reasoning"))
        return {"text": text, "reasoning": reasoning or None, "tool_calls": calls, "refusal": refusal, **end}


Source = Callable[[Answer], AsyncGenerator[None, None]]
"""Sends the request and reads its answer. Closing it closes the request."""


async def stream_answer(
    ctx: Context,
    source: Source,
    *,
    idle_seconds: float,
    max_retries: int,
    unreachable: tuple[type[Exception], ...],
) -> dict[str, Any]:
    """Stream one answer: its pieces as they come, then its calls, refusal and end. Returns the whole of it.

    A request that is turned away before its answer began is sent again, up to ``max_retries`` times, after as long as
    the provider asks for; ``completion.waiting`` says so. Raises what the source raises, CompletionError for an answer
    without an end, and TimeoutError when nothing comes for ``idle_seconds``; ``completion.failed`` tells each.
    """
    await _reset_if_again(ctx)
    for retries_left in range(max_retries, -1, -1):
        answer = Answer()
        refused = await _read(ctx, source, answer, idle_seconds, unreachable)
        if refused is None:
            break
        seconds = _pause_seconds(refused, max_retries - retries_left)
        if not retries_left or seconds > _MOST_SECONDS_TO_WAIT:
            await _tell_failure(ctx, refused)
            raise refused
        said = {"seconds": round(seconds, 3), "error": type(refused).__name__, "message": str(refused)}
        await ctx.emit("completion.waiting", said)
        await asyncio.sleep(seconds)
    return await answer.tell_end(ctx)


async def _read(
    ctx: Context, source: Source, answer: Answer, idle_seconds: float, unreachable: tuple[type[Exception], ...]
) -> Exception | None:
    """Returns the error of a request that may be sent again; tells any other and raises it."""
    clock = asyncio.get_running_loop().time
    pieces = source(answer)
    piece = asyncio.ensure_future(_next(pieces))
    told_at, heard_at, has_begun = float("-inf"), clock(), False
    try:
        while True:
            due = heard_at + idle_seconds
            if answer.waiting:
                due = min(due, told_at + _SECONDS_BETWEEN_ENTRIES)
            await asyncio.wait({piece}, timeout=max(0.0, due - clock()))
            if piece.done():
                if error := _error_of(piece, answer):
                    if not has_begun and _is_worth_another_try(error, unreachable):
                        return error
                    await _tell_rest(ctx, answer)
                    await _tell_failure(ctx, error)
                    raise error
                if not piece.result():
                    await _tell_rest(ctx, answer)
                    return None
                has_begun, heard_at = True, clock()
                piece = asyncio.ensure_future(_next(pieces))
            elif clock() - heard_at >= idle_seconds:
                late = TimeoutError(f"the provider sent nothing for {idle_seconds:g} s")
                await _tell_rest(ctx, answer)
                await _tell_failure(ctx, late)
                raise late
            if answer.waiting and clock() - told_at >= _SECONDS_BETWEEN_ENTRIES:
                told_at = clock()
                await answer.tell_next(ctx)
    finally:
        piece.cancel()
        await asyncio.gather(piece, return_exceptions=True)
        await pieces.aclose()


async def _next(pieces: AsyncGenerator[None, None]) -> bool:
    """False at the end: a task cannot raise StopAsyncIteration to who awaits it and be told from a failure."""
    async for _ in pieces:
        return True
    return False


def _error_of(piece: asyncio.Future[bool], answer: Answer) -> Exception | None:
    error = piece.exception()
    if error is None and not piece.result() and answer.finish_reason is None:
        return CompletionError("the provider's stream ended before its answer did")
    if error is None or isinstance(error, Exception):
        return error
    raise error


async def _tell_rest(ctx: Context, answer: Answer) -> None:
    while answer.waiting:
        await answer.tell_next(ctx)


async def _tell_failure(ctx: Context, error: Exception) -> None:
    told: dict[str, Any] = {"error": type(error).__name__, "message": str(error) or type(error).__name__}
    if (asked := _asked_seconds(error)) is not None:
        told["retry_after_seconds"] = asked
    await ctx.emit("completion.failed", told)


def _is_worth_another_try(error: Exception, unreachable: tuple[type[Exception], ...]) -> bool:
    if (wish := _headers(error).get("x-should-retry")) in {"true", "false"}:
        return wish == "true"
    status = _status(error)
    if status is None:
        return isinstance(error, unreachable)
    return status in _WORTH_ANOTHER_TRY or status >= _SERVER_ERROR


def _status(error: Exception) -> int | None:
    for name in ("status_code", "code"):  # OpenAI and Anthropic, Google
        if isinstance(status := getattr(error, name, None), int):
            return status
    return None


def _headers(error: Exception) -> Mapping[str, str]:
    headers = getattr(getattr(error, "response", None), "headers", None)
    return {} if headers is None else {str(name).lower(): str(value) for name, value in headers.items()}


def _pause_seconds(error: Exception, tries_before: int) -> float:
    asked = _asked_seconds(error)
    if asked is not None:
        return asked
    return min(_MOST_SECONDS_UNTOLD, 0.5 * 2.0**tries_before) * random.uniform(0.75, 1)


def _asked_seconds(error: Exception) -> float | None:
    """``retry-after`` (RFC 9110, 10.2.3), its form in ms, or Google's RetryInfo (google.rpc.RetryInfo)."""
    headers = _headers(error)
    with suppress(KeyError, ValueError):
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    after = headers.get("retry-after", "")
    with suppress(ValueError):
        return max(0.0, float(after))
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(after) - datetime.now(UTC)).total_seconds())
    return _asked_in_body(error)


def _asked_in_body(error: Exception) -> float | None:
    with suppress(AttributeError, KeyError, TypeError, ValueError):
        details: Any = error.details["error"]["details"]  # type: ignore[attr-defined]
        for each in details:
            if "retryDelay" in each:
                return max(0.0, float(each["retryDelay"].removesuffix("s")))
    return None


async def _reset_if_again(ctx: Context) -> None:
    """Told once a try: a second answer in the same try follows the first and replaces nothing."""
    tries = ctx.memory.setdefault(_MARK, {})
    before = tries.get(ctx.step)
    tries[ctx.step] = ctx
    if before is not ctx and (before is not None or ctx.attempt > 1):
        await ctx.emit("token.reset", {"attempt": ctx.attempt})
