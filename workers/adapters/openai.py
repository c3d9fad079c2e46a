"""Answers of OpenAI's SDK, streamed as the events of a step. Needs ``tailrace[openai]``."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from openai import APIConnectionError, AsyncOpenAI

from tailrace.workers.adapters.completion import Answer, CompletionError, Source, stream_answer
from tailrace.workers.definition.context import Context


async def stream_completion(
    ctx: Context, client: AsyncOpenAI, *, model: str, messages: list[Any], idle_seconds: float = 60, **options: Any
) -> dict[str, Any]:
    """Stream a chat completion: ``token`` as it comes, then ``tool.call``, ``completion.refusal``, ``…finished``.

    Returns text, reasoning, tool_calls, refusal, finish_reason and usage. When the step is tried again, or taken over
    by another worker, ``token.reset`` says first that what the step's tokens were so far no longer counts. A request
    that is turned away is sent again after as long as retry-after says, up to the client's ``max_retries``;
    ``completion.waiting`` says so. Cancelling closes the request.

    Raises what the SDK raises, TimeoutError when nothing comes for ``idle_seconds``, and CompletionError for an answer
    that breaks off; ``completion.failed`` tells each. Raises TypeError for a client that is not an AsyncOpenAI:
    another would block the worker.
    """

    async def read(answer: Answer) -> AsyncGenerator[None, None]:
        asked: dict[str, Any] = {"stream_options": {"include_usage": True}, **options}
        once = client.with_options(max_retries=0)
        stream: Any = await once.chat.completions.create(model=model, messages=messages, stream=True, **asked)
        async with stream:
            async for chunk in stream:
                _take_chunk(answer, chunk)
                yield

    return await _stream(ctx, client, read, idle_seconds)


async def stream_response(
    ctx: Context,
    client: AsyncOpenAI,
    *,
    model: str,
    input: Any,  # noqa: A002 - the SDK's name
    idle_seconds: float = 60,
    **options: Any,
) -> dict[str, Any]:
    """The same with the Responses API: ``reasoning`` is the summary of it, or the text where the model gives it.

    For the next turn give ``previous_response_id``; the result has it as ``response_id``.
    """
    response_id: list[str] = []

    async def read(answer: Answer) -> AsyncGenerator[None, None]:
        once = client.with_options(max_retries=0)
        stream: Any = await once.responses.create(model=model, input=input, stream=True, **options)
        async with stream:
            async for event in stream:
                if event.type == "response.created":
                    response_id[:] = [event.response.id]
                _take_event(answer, event)
                yield

    result = await _stream(ctx, client, read, idle_seconds)
    return {**result, "response_id": next(iter(response_id), None)}


async def _stream(ctx: Context, client: AsyncOpenAI, read: Source, idle_seconds: float) -> dict[str, Any]:
    if not isinstance(client, AsyncOpenAI):
        raise TypeError(f"client is a {type(client).__name__}: an AsyncOpenAI is needed, any other blocks the worker")
    return await stream_answer(
        ctx, read, idle_seconds=idle_seconds, max_retries=client.max_retries, unreachable=(APIConnectionError,)
    )


def _take_chunk(answer: Answer, chunk: Any) -> None:
    if chunk.usage is not None:
        answer.count(chunk.usage.model_dump(exclude_none=True))
    for choice in chunk.choices:
        answer.finish_reason = choice.finish_reason or answer.finish_reason
        # Not of OpenAI's own, but of many that speak its format.
        answer.reasoning(getattr(choice.delta, "reasoning_content", None) or getattr(choice.delta, "reasoning", None))
        answer.text(choice.delta.content)
        answer.refusal(choice.delta.refusal)
        for part in choice.delta.tool_calls or ():
            function = part.function
            name, arguments = (None, None) if function is None else (function.name, function.arguments)
            answer.call(part.index, id=part.id, name=name, arguments=arguments)


def _take_event(answer: Answer, event: Any) -> None:
    match event.type:
        case "response.output_text.delta":
            answer.text(event.delta)
        case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
            answer.reasoning(event.delta)
        case "response.refusal.delta":
            answer.refusal(event.delta)
        case "response.output_item.done" if event.item.type == "function_call":
            item = event.item
            answer.call(event.output_index, id=item.call_id, name=item.name, arguments=item.arguments)
        case "response.completed" | "response.incomplete":
            details = event.response.incomplete_details
            answer.finish_reason = (details and details.reason) or event.response.status
            if event.response.usage is not None:
                answer.count(event.response.usage.model_dump(exclude_none=True))
        case "response.failed":
            error = event.response.error
            raise CompletionError("the provider gave no reason" if error is None else f"{error.code}: {error.message}")
        case "error":
            raise CompletionError(f"{event.code}: {event.message}")
