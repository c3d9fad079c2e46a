"""Content of Google's Gen AI SDK, streamed as the events of a step. Needs ``tailrace[google]``."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

from google.genai import Client
from google.genai.client import AsyncClient

from tailrace.workers.adapters.completion import Answer, stream_answer
from tailrace.workers.definition.context import Context

# Finish reasons by which the provider withholds an answer; any other ends it, or cuts it short (MAX_TOKENS).
_WITHHELD: Final = frozenset({"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY"})


async def stream_completion(
    ctx: Context,
    client: Client | AsyncClient,
    *,
    model: str,
    contents: Any,
    config: Any = None,
    idle_seconds: float = 60,
    max_retries: int = 2,
) -> dict[str, Any]:
    """Stream what ``generate_content_stream`` gives: ``token`` and ``reasoning`` (thoughts), then calls and the end.

    Events, result and errors are as in ``tailrace.workers.adapters.openai``. The SDK does not obey retry-after, so
    leave its own ``retry_options`` unset: ``max_retries`` counts here. Raises TypeError for another client.
    """
    if not isinstance(client, (Client, AsyncClient)):
        raise TypeError(f"client is a {type(client).__name__}: a google.genai.Client is needed")
    asynchronous: Any = client.aio if isinstance(client, Client) else client

    async def read(answer: Answer) -> AsyncGenerator[None, None]:
        stream = await asynchronous.models.generate_content_stream(model=model, contents=contents, config=config)
        async with aclosing(stream):
            async for chunk in stream:
                _take(answer, chunk)
                yield

    return await stream_answer(
        ctx, read, idle_seconds=idle_seconds, max_retries=max_retries, unreachable=(ConnectionError,)
    )


def _take(answer: Answer, chunk: Any) -> None:
    if chunk.usage_metadata is not None:
        answer.count(chunk.usage_metadata.model_dump(mode="json", exclude_none=True))
    if (feedback := chunk.prompt_feedback) is not None and feedback.block_reason is not None:
        answer.finish_reason = feedback.block_reason.value
        answer.refusal(feedback.block_reason_message or f"The prompt was blocked: {answer.finish_reason}.")
    for candidate in (chunk.candidates or ())[:1]:
        for part in (candidate.content and candidate.content.parts) or ():
            if part.function_call is not None:
                call = part.function_call
                arguments = json.dumps(call.args or {}, ensure_ascii=False)
                answer.call(len(answer.calls), id=call.id, name=call.name, arguments=arguments)
            elif part.thought:
                answer.reasoning(part.text)
            else:
                answer.text(part.text)
        if candidate.finish_reason is not None:
            answer.finish_reason = candidate.finish_reason.value
            if answer.finish_reason in _WITHHELD:
                answer.refusal(candidate.finish_message or f"The answer was withheld: {answer.finish_reason}.")
