"""An answer whose worker is killed in the middle of it: the next worker's is another, and nobody takes half of two."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tailrace import BusSettings, open_bus
from tests.integration.adapters.apis import APIS
from tests.integration.adapters.provider import HEAD, provider
from tests.integration.cli.processes import call, family
from tests.integration.gateway.live import GatewayProcess
from tests.integration.workers.watching import watch
from tests.patience import patient

pytestmark = pytest.mark.anyio

PROGRAM = """
from tailrace import Context, Pipeline, Registry, Step
from tests.integration.adapters.apis import APIS


async def answer(ctx: Context) -> str:
    return (await APIS["chat-completions"].stream(ctx, "{url}"))["text"]


registry = Registry([Pipeline("answer", (Step("answer", answer),), max_attempts=2)])
"""


@pytest.fixture
def gateway(server_url: str, prefix: str) -> Iterator[GatewayProcess]:
    with GatewayProcess(redis_url=server_url, prefix=prefix) as process:
        yield process


async def shown(url: str, execution_id: str) -> str:
    """The text that a viewer has at the end, who empties it at a ``token.reset``."""
    text = ""
    query = {"merge": "tokens", "types": "token,token.reset"}
    async with (
        httpx.AsyncClient(base_url=url, timeout=patient(30)) as client,
        client.stream("GET", f"/v1/executions/{execution_id}/events", params=query) as response,
    ):
        async for line in response.aiter_lines():
            event: dict[str, Any] = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            match event.get("type"):
                case "token":
                    text += event["data"]["text"]
                case "token.reset":
                    text = ""
    return text


async def test_the_second_answer_replaces_the_first_for_every_viewer(
    gateway: GatewayProcess, server_url: str, prefix: str, tmp_path: Path
) -> None:
    # What is told, and when, is the same for all providers.
    frames = APIS["chat-completions"]
    half = [HEAD, frames.begin(), *map(frames.text, ["half ", "of ", "one "])]
    whole = [HEAD, frames.begin(), *map(frames.text, ["the ", "other, ", "whole"]), frames.finish()]
    start = ("worker", "--pipelines", "answering:registry", "--redis-url", server_url)
    env = {"TAILRACE_PREFIX": prefix, "PYTHONPATH": str(Path(__file__).parents[3]), "PYTHONWARNINGS": "ignore"}
    async with (
        provider(half, whole, stalls=True) as serving,
        await open_bus(server_url, settings=BusSettings(prefix=prefix)) as bus,
    ):
        (tmp_path / "answering.py").write_text(PROGRAM.format(url=serving.url))
        with family(tmp_path / "first.log", *start, env=env, cwd=tmp_path) as first:
            await asyncio.to_thread(first.await_words, "worker ready")
            execution_id = await bus.submit("answer", {})
            watching = asyncio.create_task(shown(await asyncio.to_thread(gateway.url), execution_id))
            await watch(bus, execution_id, until="token")
            with family(tmp_path / "second.log", *start, env=env, cwd=tmp_path) as second:
                await asyncio.to_thread(second.await_words, "worker ready")
                first.process.kill()
                entries = await watch(bus, execution_id)
    types = [entry.type for entry in entries if entry.type.startswith(("token", "execution."))]
    reset = types.index("token.reset")
    assert {*types[types.index("execution.started") + 1 : types.index("execution.retrying")]} == {"token"}
    assert "token" not in types[types.index("execution.retrying") : reset]
    assert entries[-1].data["result"] == "the other, whole"
    assert await watching == "the other, whole"
    printed = await asyncio.to_thread(call, "tail", execution_id, "--gateway", gateway.url())
    assert "the text of this step starts anew (attempt 2)" in printed.stdout
