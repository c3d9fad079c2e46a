"""The steps that a pipeline from JSON may name here, beside those that every worker has, such as ``ask``."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from openai import AsyncOpenAI
from pydantic import BaseModel, Field

from tailrace import Context, StepRegistry
from tailrace.workers.adapters.openai import stream_completion

steps = StepRegistry()


class Pace(BaseModel):
    """How long an item takes."""

    seconds: float = Field(0.0, ge=0, le=60)


class Prompt(BaseModel):
    prompt: str = Field("What did the steps before give?", min_length=1, max_length=10_000)
    model: str = Field("offline", max_length=100)


@steps.step("count")
async def count(ctx: Context, given: dict[str, Any], options: Pace) -> dict[str, int]:
    """Counts the words of ``text``. Who takes it over goes on behind the last word that was counted."""
    words = str(given.get("text", "")).split()
    done, characters = ctx.restored or (0, 0)
    for number in range(done, len(words)):
        await asyncio.sleep(options.seconds)
        characters += len(words[number])
        await ctx.progress((number + 1) / len(words), f"Processing item {number}")
        await ctx.checkpoint((number + 1, characters))
    return {"words": len(words), "characters": characters}


@steps.step("answer")
async def answer(ctx: Context, outputs: dict[str, Any], options: Prompt) -> dict[str, Any]:
    """Asks a model, whose tokens are told as they come. OPENAI_BASE_URL and OPENAI_API_KEY say which, and as whom."""
    content = f"{options.prompt}\n{json.dumps(outputs, default=str)}"
    async with AsyncOpenAI() as client:
        messages = [{"role": "user", "content": content}]
        completed = await stream_completion(ctx, client, model=options.model, messages=messages)
    return {"text": completed["text"], "finish_reason": completed["finish_reason"], "usage": completed["usage"]}


@steps.step("fail")
async def fail(ctx: Context) -> None:
    await ctx.log("about to fail")
    raise ValueError("this step always fails")
