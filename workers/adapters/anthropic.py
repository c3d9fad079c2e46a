"""Messages of Anthropic's SDK, streamed as the events of a step. Needs ``tailrace[anthropic]``."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from anthropic import APIConnectionError, AsyncAnthropic

from tailrace.workers.adapters.completion import Answer, stream_answer
from tailrace.workers.definition.context import Context


async def stream_completion(
    ctx: Context,
    client: AsyncAnthropic,
    *,
    model: str,
    messages: list[Any],
    max_tokens: int,
    idle_seconds: float = 60,
    **options: Any,
) -> dict[str, Any]:
    """Stream a message: ``token`` and ``reasoning`` (thinking) as they come, then ``tool.call`` and the end.

    Events, result and errors are as in ``tailrace.workers.adapters.openai``; ``finish_reason`` is the ``stop_reason``.
    Raises TypeError for a client that is not an AsyncAnthropic.
    """
    if not isinstance(client, AsyncAnthropic):
        raise TypeError(
            f"client is a {type(client).__name__}: an AsyncAnthropic is needed, any other blocks the worker"
        )

    async def read(answer: Answer) -> AsyncGenerator[None, None]:
        once: Any = client.with_options(max_retries=0)
        asked = {"model": model, "messages": messages, "max_tokens": max_tokens, **options}
        async with await once.messages.create(stream=True, **asked) as stream:
            async for event in stream:
                _take(answer, event)
                yield

    return await stream_answer(
        ctx, read, idle_seconds=idle_seconds, max_retries=client.max_retries, unreachable=(APIConnectionError,)
    )


def _take(answer: Answer, event: Any) -> None:
    match event.type:
        case "message_start":
            answer.count(event.message.usage.model_dump(exclude_none=True))
        case "content_block_start" if event.content_block.type == "tool_use":
            answer.call(event.index, id=event.content_block.id, name=event.content_block.name)
        case "content_block_stop" if event.index in answer.calls:
            # A tool without parameters sends no piece of JSON.
            answer.call(event.index, arguments="" if answer.calls[event.index]["arguments"] else "{}")
        case "content_block_delta":
            _take_delta(answer, event.index, event.delta)
        case "message_delta":
            answer.finish_reason = event.delta.stop_reason or answer.finish_reason
            answer.count(event.usage.model_dump(exclude_none=True))
            if event.delta.stop_reason == "refusal":
                details = getattr(event.delta, "stop_details", None)
                answer.refusal((details and details.explanation) or "The model refused to go on, and gave no reason.")


def _take_delta(answer: Answer, index: int, delta: Any) -> None:
    match delta.type:
        case "text_delta":
            answer.text(delta.text)
        case "thinking_delta":
            answer.reasoning(delta.thinking)
        case "input_json_delta":
            if index in answer.calls:
                answer.call(index, arguments=delta.partial_json)
