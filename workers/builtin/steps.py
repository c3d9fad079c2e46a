"""The steps that any pipeline from JSON may use: none of them changes anything, or reaches another machine."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from tailrace.workers.builtin.answer_schema import AnswerSchema
from tailrace.workers.definition.condition import Condition, value_at
from tailrace.workers.definition.context import Context, Level
from tailrace.workers.definition.outputs import Outputs
from tailrace.workers.definition.step_registry import StepRegistry

MAX_TEXT_CHARS: Final = 4096
TICK_SECONDS: Final = 1.0

Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARS)]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LogOptions(_Options):
    text: Text
    level: Level = "info"


class WaitOptions(_Options):
    seconds: float = Field(ge=0, le=3600, allow_inf_nan=False)


class CheckOptions(_Options):
    """``condition`` says whether the check is passed; ``score`` is a path to a number to tell beside that."""

    condition: Condition
    score: str | None = Field(None, max_length=MAX_TEXT_CHARS)


class AskOptions(_Options):
    question: Text
    schema_: AnswerSchema | None = Field(None, alias="schema")


async def log(ctx: Context, options: LogOptions) -> None:
    """Says a line."""
    await ctx.log(options.text, level=options.level)


async def wait(ctx: Context, options: WaitOptions) -> dict[str, float]:
    """Waits, and tells each second."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    while (left := start + options.seconds - loop.time()) > 0:
        await asyncio.sleep(min(left, TICK_SECONDS))
        done = min(1.0, (loop.time() - start) / options.seconds)
        await ctx.progress(done, f"{options.seconds * done:.0f} of {options.seconds:g} s")
    return {"seconds": options.seconds}


async def check(ctx: Context, outputs: Outputs, options: CheckOptions) -> dict[str, Any]:
    """Judges the input or an output: tells a quality.check, and gives whether it is passed."""
    passed = options.condition(ctx.input, outputs)
    source = ctx.input if options.condition.step is None else outputs.get(options.condition.step)
    found = value_at(source, options.condition.path if options.score is None else options.score)
    score = float(found) if isinstance(found, int | float) else float(passed)
    await ctx.quality(ctx.step, score, passed)
    return {"passed": passed, "score": score}


async def ask(ctx: Context, options: AskOptions) -> dict[str, Any]:
    """Asks a person, and gives the answer."""
    schema = None if options.schema_ is None else options.schema_.plain
    return {"answer": await ctx.ask(options.question, schema)}


STEPS: Final = StepRegistry()
STEPS.add("log", log)
STEPS.add("wait", wait)
STEPS.add("check", check)
STEPS.add("ask", ask)
