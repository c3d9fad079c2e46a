"""A model that needs no network: it streams a text at a given speed, in the format of OpenAI's chat completions.

    python offline_model.py --port 8100 --tokens-per-second 20

For demos and tests: OpenAI's SDK can be pointed at it with ``base_url="http://127.0.0.1:8100/v1"``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

TEXT = "This answer was written before you asked. It comes word by word, as that of a real model does."


class Message(BaseModel):
    role: str
    content: str | list[dict[str, Any]] | None = None


class StreamOptions(BaseModel):
    include_usage: bool = False


class Request(BaseModel):
    """What is not named here is accepted and has no effect."""

    model: str = "offline"
    messages: list[Message]
    stream: bool = False
    stream_options: StreamOptions | None = None


def tokens_of(text: str) -> list[str]:
    """Words with the space before them; put together they are the text."""
    return re.findall(r"\s*\S+|\s+$", text)


async def stream_text(text: str = TEXT, *, tokens_per_second: float = 20) -> AsyncIterator[str]:
    """The same without a server. The pace is kept by the clock: a late token does not delay the next ones."""
    begun = time.monotonic()
    for number, token in enumerate(tokens_of(text), start=1):
        await asyncio.sleep(max(0.0, begun + number / tokens_per_second - time.monotonic()))
        yield token


def application(text: str = TEXT, *, tokens_per_second: float = 20) -> FastAPI:
    app = FastAPI()

    @app.post("/v1/chat/completions", response_model=None)
    async def complete(asked: Request) -> Response | dict[str, Any]:
        made = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time.time()), "model": asked.model}
        count = len(tokens_of(text))
        prompt = sum(len(tokens_of(each.content)) for each in asked.messages if isinstance(each.content, str))
        usage = {"prompt_tokens": prompt, "completion_tokens": count, "total_tokens": prompt + count}

        async def chunks() -> AsyncIterator[str]:
            def chunk(choices: list[dict[str, Any]], **more: Any) -> str:
                shown = {**made, "object": "chat.completion.chunk", "choices": choices, **more}
                return f"data: {json.dumps(shown)}\n\n"

            def choice(delta: dict[str, Any], finish_reason: str | None = None) -> list[dict[str, Any]]:
                return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]

            yield chunk(choice({"role": "assistant", "content": ""}))
            async for token in stream_text(text, tokens_per_second=tokens_per_second):
                yield chunk(choice({"content": token}))
            yield chunk(choice({}, "stop"))
            if asked.stream_options is not None and asked.stream_options.include_usage:
                yield chunk([], usage=usage)
            yield "data: [DONE]\n\n"

        if asked.stream:
            return StreamingResponse(chunks(), media_type="text/event-stream")
        whole = "".join([token async for token in stream_text(text, tokens_per_second=tokens_per_second)])
        message = {"role": "assistant", "content": whole, "refusal": None}
        answer = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return {**made, "object": "chat.completion", "choices": [answer], "usage": usage}

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description="A model that streams one text, in OpenAI's format.")
    parser.add_argument("--port", type=int, default=8100)
    parser.add_argument("--tokens-per-second", type=float, default=20)
    parser.add_argument("--text", default=TEXT)
    given = parser.parse_args()
    app = application(given.text, tokens_per_second=given.tokens_per_second)
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
