"""Each provider's API: how it is called, and the frames it streams, written to the shapes that its documents show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import anthropic
import openai
from google import genai

from tailrace import Context
from tailrace.workers.adapters import anthropic as anthropic_adapter
from tailrace.workers.adapters import google as google_adapter
from tailrace.workers.adapters import openai as openai_adapter
from tests.integration.adapters.provider import sse, turned_away


class Api(Protocol):
    """``end`` is the finish reason; the frames of an answer are ``begin``, pieces, ``finish``."""

    end: ClassVar[str]
    refusal: ClassVar[str]
    usage: ClassVar[dict[str, Any]]

    def begin(self) -> bytes: ...
    def text(self, text: str) -> bytes: ...
    def reasoning(self, text: str) -> bytes: ...
    def call(self) -> bytes: ...
    def finish(self) -> bytes: ...
    def refused(self) -> bytes: ...
    def broken(self) -> bytes: ...
    def limited(self, seconds: int) -> bytes: ...
    async def stream(self, ctx: Context, url: str, *, idle_seconds: float = 30, retries: int = 1) -> Any: ...


CALL = {"id": "t1", "name": "add", "arguments": '{"a": 1}'}
REFUSAL = "I cannot help with that."


@dataclass(frozen=True)
class ChatCompletions:
    end: ClassVar[str] = "stop"
    refusal: ClassVar[str] = REFUSAL
    usage: ClassVar[dict[str, Any]] = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return sse({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})

    def begin(self) -> bytes:
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def text(self, text: str) -> bytes:
        return self._chunk({"content": text})

    def reasoning(self, text: str) -> bytes:
        return self._chunk({"reasoning_content": text})

    def call(self) -> bytes:
        first = {"index": 0, "id": "t1", "type": "function", "function": {"name": "add", "arguments": ""}}
        rest = [{"index": 0, "function": {"arguments": part}} for part in ('{"a"', ": 1}")]
        return b"".join(self._chunk({"tool_calls": [part]}) for part in [first, *rest])

    def finish(self) -> bytes:
        usage = sse(
            {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}
            | {"usage": self.usage}
        )
        return self._chunk({}, "stop") + usage + b"data: [DONE]\n\n"

    def refused(self) -> bytes:
        return self._chunk({"refusal": REFUSAL}) + self.finish()

    def broken(self) -> bytes:
        return sse({"error": {"message": "overloaded", "type": "server_error", "param": None, "code": None}})

    def limited(self, seconds: int) -> bytes:
        return turned_away(429, {"error": {"message": "slow down", "type": "requests"}}, f"retry-after: {seconds}")

    async def stream(self, ctx: Context, url: str, *, idle_seconds: float = 30, retries: int = 1) -> Any:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=retries) as client:
            return await openai_adapter.stream_completion(
                ctx, client, model="m", messages=[{"role": "user", "content": "why?"}], idle_seconds=idle_seconds
            )


@dataclass(frozen=True)
class Responses(ChatCompletions):
    end: ClassVar[str] = "completed"
    usage: ClassVar[dict[str, Any]] = {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 5,
    }

    def _event(self, name: str, **data: Any) -> bytes:
        return sse({"type": name, "sequence_number": 1, **data}, name)

    def _response(self, status: str, **more: Any) -> dict[str, Any]:
        made = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "output": [], "tools": []}
        fixed = {"parallel_tool_calls": True, "tool_choice": "auto", "incomplete_details": None, "error": None}
        return {**made, **fixed, "status": status, **more}

    def begin(self) -> bytes:
        return self._event("response.created", response=self._response("in_progress"))

    def text(self, text: str) -> bytes:
        return self._event(
            "response.output_text.delta", item_id="m1", output_index=0, content_index=0, delta=text, logprobs=[]
        )

    def reasoning(self, text: str) -> bytes:
        return self._event(
            "response.reasoning_summary_text.delta", item_id="r1", output_index=0, summary_index=0, delta=text
        )

    def call(self) -> bytes:
        item = {"id": "f1", "type": "function_call", "call_id": "t1", "name": "add", "arguments": ""}
        at = {"output_index": 1}
        parts = [
            self._event("response.function_call_arguments.delta", item_id="f1", **at, delta=part)
            for part in ('{"a"', ": 1}")
        ]
        begun = self._event("response.output_item.added", **at, item={**item, "status": "in_progress"})
        done = {**item, "arguments": CALL["arguments"], "status": "completed"}
        return b"".join([begun, *parts, self._event("response.output_item.done", **at, item=done)])

    def finish(self) -> bytes:
        return self._event("response.completed", response=self._response("completed", usage=self.usage))

    def refused(self) -> bytes:
        said = self._event("response.refusal.delta", item_id="m1", output_index=0, content_index=0, delta=REFUSAL)
        return said + self.finish()

    def broken(self) -> bytes:
        error = {"code": "server_error", "message": "overloaded"}
        return self._event("response.failed", response=self._response("failed", error=error))

    async def stream(self, ctx: Context, url: str, *, idle_seconds: float = 30, retries: int = 1) -> Any:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=retries) as client:
            return await openai_adapter.stream_response(ctx, client, model="m", input="why?", idle_seconds=idle_seconds)


@dataclass(frozen=True)
class Messages:
    end: ClassVar[str] = "end_turn"
    refusal: ClassVar[str] = REFUSAL
    usage: ClassVar[dict[str, Any]] = {"input_tokens": 3, "output_tokens": 2}

    def _event(self, name: str, **data: Any) -> bytes:
        return sse({"type": name, **data}, name)

    def _block(self, index: int, block: dict[str, Any], *deltas: dict[str, Any]) -> bytes:
        events = [self._event("content_block_start", index=index, content_block=block)]
        events += [self._event("content_block_delta", index=index, delta=delta) for delta in deltas]
        return b"".join([*events, self._event("content_block_stop", index=index)])

    def begin(self) -> bytes:
        made = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": []}
        usage = {"input_tokens": 3, "output_tokens": 1}
        message = {**made, "stop_reason": None, "stop_sequence": None, "usage": usage}
        return self._event("message_start", message=message) + self._event("ping")

    def text(self, text: str) -> bytes:
        return self._block(1, {"type": "text", "text": ""}, {"type": "text_delta", "text": text})

    def reasoning(self, text: str) -> bytes:
        signature = {"type": "signature_delta", "signature": "EqQ"}
        return self._block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": text},
            signature,
        )

    def call(self) -> bytes:
        parts = [{"type": "input_json_delta", "partial_json": part} for part in ("", '{"a"', ": 1}")]
        return self._block(2, {"type": "tool_use", "id": "t1", "name": "add", "input": {}}, *parts)

    def _stop(self, reason: str, **more: Any) -> bytes:
        delta = {"stop_reason": reason, "stop_sequence": None, **more}
        return self._event("message_delta", delta=delta, usage={"output_tokens": 2}) + self._event("message_stop")

    def finish(self) -> bytes:
        return self._stop("end_turn")

    def refused(self) -> bytes:
        details = {"type": "refusal", "category": None, "explanation": REFUSAL}
        return self._stop("refusal", stop_details=details)

    def broken(self) -> bytes:
        return self._event("error", error={"type": "overloaded_error", "message": "overloaded"})

    def limited(self, seconds: int) -> bytes:
        error = {"type": "overloaded_error", "message": "slow down"}
        return turned_away(529, {"type": "error", "error": error}, f"retry-after: {seconds}")

    async def stream(self, ctx: Context, url: str, *, idle_seconds: float = 30, retries: int = 1) -> Any:
        async with anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=retries) as client:
            asked = [{"role": "user", "content": "why?"}]
            return await anthropic_adapter.stream_completion(
                ctx, client, model="m", max_tokens=99, messages=asked, idle_seconds=idle_seconds
            )


@dataclass(frozen=True)
class GenerateContent:
    end: ClassVar[str] = "STOP"
    # The SDK drops finishMessage, but for Vertex AI.
    refusal: ClassVar[str] = "The answer was withheld: SAFETY."
    usage: ClassVar[dict[str, Any]] = {"prompt_token_count": 3, "candidates_token_count": 2, "total_token_count": 5}

    def _chunk(self, part: dict[str, Any] | None, **candidate: Any) -> bytes:
        content = {} if part is None else {"content": {"parts": [part], "role": "model"}}
        usage = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}
        made = {"usageMetadata": usage, "modelVersion": "m", "responseId": "r"}
        return sse({"candidates": [{**content, "index": 0, **candidate}], **made})

    def begin(self) -> bytes:
        return b""

    def text(self, text: str) -> bytes:
        return self._chunk({"text": text})

    def reasoning(self, text: str) -> bytes:
        return self._chunk({"text": text, "thought": True})

    def call(self) -> bytes:
        return self._chunk({"functionCall": {"id": "t1", "name": "add", "args": {"a": 1}}})

    def finish(self) -> bytes:
        return self._chunk({"text": ""}, finishReason="STOP")

    def refused(self) -> bytes:
        return self._chunk(None, finishReason="SAFETY", finishMessage=REFUSAL)

    def broken(self) -> bytes:
        return sse({"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}})

    def limited(self, seconds: int) -> bytes:
        info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds}s"}
        error = {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED", "details": [info]}
        return turned_away(429, {"error": error})

    async def stream(self, ctx: Context, url: str, *, idle_seconds: float = 30, retries: int = 1) -> Any:
        client = genai.Client(api_key="none", http_options={"base_url": url})
        try:
            return await google_adapter.stream_completion(
                ctx, client, model="m", contents="why?", idle_seconds=idle_seconds, max_retries=retries
            )
        finally:
            await client.aio.aclose()
            client.close()


APIS: dict[str, Api] = {
    "chat-completions": ChatCompletions(),
    "responses": Responses(),
    "anthropic": Messages(),
    "google": GenerateContent(),
}
