"""Streamed answers as events, alike for every provider, on its own SDK and in its own streaming format."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import groupby
from typing import Any

import openai
import pytest

from tailrace import Bus, BusSettings, Context, Entry, Pipeline, Step, open_bus, run_pipeline
from tailrace.workers.adapters.openai import stream_completion
from tests.integration.adapters.apis import APIS, CALL, Api
from tests.integration.adapters.provider import HEAD, HEAD_OF_MORE, Provider, provider, turned_away
from tests.patience import patient

pytestmark = [
    pytest.mark.anyio,
    # Google's SDK derives from aiohttp's session, and aiohttp says that it should not.
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
]


@pytest.fixture(params=list(APIS.values()), ids=list(APIS))
def api(request: pytest.FixtureRequest) -> Api:
    chosen: Api = request.param
    return chosen


async def streamed(
    api: Api, serving: Provider, server_url: str, prefix: str, *, step_retries: int = 0, **options: Any
) -> list[Entry]:
    """The events of the answer, in order; ``execution.completed`` with its result too, if it came to that."""

    async def answer(ctx: Context) -> Any:
        return await api.stream(ctx, serving.url, **options)

    pipeline = Pipeline("answer", (Step("answer", answer, retries=step_retries, retry_delay_seconds=0.01),))
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as bus, asyncio.timeout(patient(20)):
        with suppress(Exception):  # the log tells
            await _run(bus, pipeline)
        entries = [item async for item in bus.follow("one") if isinstance(item, Entry)]
    shown = ("execution.completed", "token", "reasoning", "tool.", "completion.")
    return [each for each in entries if each.type.startswith(shown)]


async def _run(bus: Bus, pipeline: Pipeline) -> None:
    async with bus.execution("one", pipeline="answer") as execution:
        execution.result = await run_pipeline(bus, execution, pipeline, {})


def types(entries: list[Entry]) -> list[str]:
    return [each.type for each in entries]


async def test_pieces_come_as_few_entries_and_the_result_is_the_whole(api: Api, server_url: str, prefix: str) -> None:
    pieces = [f"{n} " for n in range(200)]
    told = [HEAD, api.begin(), api.reasoning("hm"), *map(api.text, pieces), api.call(), api.finish()]
    async with provider(told) as serving:
        entries = await streamed(api, serving, server_url, prefix)

    assert [kind for kind, _ in groupby(types(entries))] == [
        "reasoning",
        "token",
        "tool.call",
        "completion.finished",
        "execution.completed",
    ]
    tokens = [each for each in entries if each.type == "token"]
    assert "".join(each.data["text"] for each in tokens) == "".join(pieces)
    assert len(tokens) < 100
    assert entries[0].data == {"text": "hm"}
    assert entries[-3].data == CALL
    end = {"finish_reason": api.end, "usage": api.usage}
    assert entries[-2].data == end
    result = entries[-1].data["result"]
    result = result.get("answer", result)
    whole = {"text": "".join(pieces), "reasoning": "hm", "tool_calls": [CALL], "refusal": None, **end}
    assert {name: result[name] for name in whole} == whole


async def test_a_refusal_is_an_event_of_its_own(api: Api, server_url: str, prefix: str) -> None:
    async with provider([HEAD, api.begin(), api.refused()]) as serving:
        entries = await streamed(api, serving, server_url, prefix)

    assert types(entries) == ["completion.refusal", "completion.finished", "execution.completed"]
    assert entries[0].data == {"text": api.refusal}


async def test_an_error_in_mid_stream_is_told_and_the_next_try_starts_anew(
    api: Api, server_url: str, prefix: str
) -> None:
    broken = [HEAD, api.begin(), api.text("half"), api.broken()]
    whole = [HEAD, api.begin(), api.text("whole"), api.finish()]
    async with provider(broken, whole) as serving:
        entries = await streamed(api, serving, server_url, prefix, step_retries=1)

    assert [(each.type, each.data.get("text")) for each in entries[:-1]] == [
        ("token", "half"),
        ("completion.failed", None),
        ("token.reset", None),
        ("token", "whole"),
        ("completion.finished", None),
    ]
    assert "overloaded" in entries[1].data["message"]


@pytest.mark.parametrize("head", [HEAD, HEAD_OF_MORE], ids=["clean", "short"])
async def test_an_answer_that_breaks_off_is_never_taken_for_whole(
    api: Api, head: bytes, server_url: str, prefix: str
) -> None:
    async with provider([head, api.begin(), api.text("half")]) as serving:
        entries = await streamed(api, serving, server_url, prefix)

    assert types(entries) == ["token", "completion.failed"]


async def test_a_rate_limit_is_waited_for_as_long_as_it_says(api: Api, server_url: str, prefix: str) -> None:
    """Also where that is longer than the provider may be silent."""
    told = [HEAD, api.begin(), api.text("so"), api.finish()]
    async with provider([api.limited(1)], told) as serving:
        entries = await streamed(api, serving, server_url, prefix, idle_seconds=0.9)

    assert types(entries) == ["completion.waiting", "token", "completion.finished", "execution.completed"]
    assert entries[0].data["seconds"] == 1
    assert serving.asked_at[1] - serving.asked_at[0] >= 1


async def test_a_rate_limit_for_longer_than_anybody_waits_fails_and_says_for_how_long(
    api: Api, server_url: str, prefix: str
) -> None:
    async with provider([api.limited(3600)]) as serving:
        entries = await streamed(api, serving, server_url, prefix)

    assert types(entries) == ["completion.failed"]
    assert entries[0].data["retry_after_seconds"] == 3600
    assert len(serving.asked_at) == 1


async def test_a_request_that_is_wrong_is_not_sent_again(api: Api, server_url: str, prefix: str) -> None:
    async with provider([turned_away(400, {"error": {"message": "no such model", "code": 400}})]) as serving:
        entries = await streamed(api, serving, server_url, prefix)

    assert types(entries) == ["completion.failed"]
    assert "no such model" in entries[0].data["message"]
    assert len(serving.asked_at) == 1


@pytest.mark.parametrize("says_something", [True, False])
async def test_a_provider_that_hangs_is_told_and_its_request_closed(
    api: Api, server_url: str, prefix: str, *, says_something: bool
) -> None:
    answers = [[HEAD, api.begin(), api.text("so")]] if says_something else []
    async with provider(*answers, hangs=True) as serving:
        entries = await streamed(api, serving, server_url, prefix, idle_seconds=0.3)
        async with asyncio.timeout(patient(5)):
            await serving.closed.wait()

    assert types(entries) == (["token"] if says_something else []) + ["completion.failed"]
    assert "nothing for 0.3 s" in entries[-1].data["message"]


async def test_a_cancel_closes_the_request_and_keeps_what_was_told(api: Api, server_url: str, prefix: str) -> None:
    async def answer(ctx: Context) -> Any:
        return await api.stream(ctx, serving.url)

    seen = []
    async with (
        provider([HEAD, api.begin(), api.text("so")], hangs=True) as serving,
        await open_bus(server_url, settings=BusSettings(prefix=prefix)) as bus,
        asyncio.timeout(patient(20)),
    ):
        running = asyncio.create_task(_run(bus, Pipeline("answer", (Step("answer", answer),))))
        async for item in bus.follow("one", wait=patient(5)):
            assert isinstance(item, Entry)
            seen.append(item.type)
            if item.type == "token":
                await bus.control.cancel("one")
        await serving.closed.wait()
        await asyncio.gather(running, return_exceptions=True)

    assert seen[-1] == "execution.cancelled"
    assert "completion.failed" not in seen


async def test_a_provider_that_cannot_be_reached_is_told(api: Api, server_url: str, prefix: str) -> None:
    async with provider() as serving:
        pass
    entries = await streamed(api, serving, server_url, prefix, retries=0)

    assert types(entries) == ["completion.failed"]


async def test_a_client_that_would_block_the_worker_is_refused() -> None:
    with openai.OpenAI(api_key="none") as client, pytest.raises(TypeError, match="an AsyncOpenAI is needed"):
        await stream_completion(None, client, model="m", messages=[])  # type: ignore[arg-type]
