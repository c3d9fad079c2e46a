"""``merge=tokens``: a replayed answer costs its text and little more, live or from the log, over each wire."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from tailrace.bus import Bus
from tests.integration.ws.client import MSGPACK, connected

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("both_ways")]

URL = "/v1/executions/e/events"


async def answer(bus: Bus, count: int) -> str:
    """An answer of so many tokens, each an entry of its own."""
    words = [f" word{number}"[:6] for number in range(count)]
    async with aclosing(bus.publisher("e")) as publisher:
        for word in words:
            await publisher.emit("token", {"text": word}, step="answer")
            # Or the publisher would merge them.
            await publisher.flush()
        await publisher.emit("execution.completed", {})
    return "".join(words)


async def test_a_replayed_answer_of_2000_tokens_takes_less_than_60_bytes_a_token(
    bus: Bus, client: httpx.AsyncClient
) -> None:
    text = await answer(bus, 2000)
    for accept in ("text/event-stream", "application/x-ndjson"):
        plain = (await client.get(URL, headers={"Accept": accept})).content
        merged = (await client.get(URL, headers={"Accept": accept}, params={"merge": "tokens"})).content
        assert len(merged) < 2000 * 60 < len(plain)
        lines = [line.removeprefix(b"data: ") for line in merged.split(b"\n") if line.startswith((b"data: ", b"{"))]
        shown: list[dict[str, Any]] = [json.loads(line) for line in lines]
        assert "".join(event["data"]["text"] for event in shown if event.get("step") == "answer") == text
    several = (await client.get("/v1/stream", params={"execution": "e", "merge": "tokens"})).content
    assert len(several) < 2000 * 60


@pytest.mark.parametrize("subprotocol", [None, MSGPACK])
async def test_a_subscription_gets_merged_tokens_too(
    bus: Bus, client: httpx.AsyncClient, subprotocol: str | None
) -> None:
    text = await answer(bus, 300)
    async with connected(f"{str(client.base_url).replace('http', 'ws', 1)}/v1/ws", subprotocol) as socket:
        await socket.ask("subscribe", execution="e", merge="tokens")
        await socket.until("end")
        tokens = [said for said in socket.events("e") if said["type"] == "token"]
        assert "".join(said["data"]["text"] for said in tokens) == text
        assert len(tokens) < 10


async def test_what_is_merged_resumes_behind_its_last_token(bus: Bus, client: httpx.AsyncClient) -> None:
    await answer(bus, 100)
    ids = [line for line in (await client.get(URL)).text.split("\n") if line.startswith("id: ")]
    merged = (await client.get(URL, params={"merge": "tokens"})).text
    (first, *_) = [line for line in merged.split("\n") if line.startswith("id: ")]
    rest = (await client.get(URL, headers={"Last-Event-ID": first.removeprefix("id: ")})).text
    assert [line for line in rest.split("\n") if line.startswith("id: ")] == ids[ids.index(first) + 1 :]


async def test_a_merge_that_is_not_known_is_a_400_that_names_it(bus: Bus, client: httpx.AsyncClient) -> None:
    await answer(bus, 1)
    refused = await client.get(URL, params={"merge": "words"})
    assert (refused.status_code, refused.json()["field"]) == (400, "merge")
    assert "'tokens'" in refused.json()["detail"]
