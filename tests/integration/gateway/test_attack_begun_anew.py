"""A log that was deleted and begun anew under the same id shows nothing of the old one, however soon that was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tailrace.bus import Bus
from tests.patience import patient

pytestmark = pytest.mark.anyio

# Enough for a page to be kept for others who read it soon.
COUNT = 100
PATH = "/v1/executions/x/events"
ACCEPTS = ["text/event-stream", "application/x-ndjson"]


async def write(bus: Bus, generation: str, count: int = COUNT) -> None:
    async with bus.execution("x") as execution:
        for number in range(count):
            await execution.append("custom.entry", {"of": generation, "number": number})


async def generations(client: httpx.AsyncClient, accept: str, path: str = PATH) -> list[str]:
    """What each entry up to the end of the stream is of."""
    async with asyncio.timeout(patient(10)):
        answer = await client.get(path, headers={"Accept": accept}, timeout=patient(10))
    return of_lines(answer.text.splitlines())


def of_lines(lines: list[str]) -> list[str]:
    told = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith(("data: ", "{"))]
    return [each["data"]["of"] for each in told if each.get("type") == "custom.entry"]


@pytest.mark.parametrize("accept", ACCEPTS)
async def test_attack_60_an_execution_that_was_deleted_and_begun_anew_shows_only_its_own(
    bus: Bus, client: httpx.AsyncClient, accept: str
) -> None:
    for generation in ("first", "second", "third"):
        await write(bus, generation)
        for path in (PATH, "/v1/stream?execution=x"):
            kind = accept if path == PATH else ACCEPTS[0]
            assert await generations(client, kind, path) == [generation] * COUNT
        await bus.delete("x")


@asynccontextmanager
async def live(client: httpx.AsyncClient, accept: str) -> AsyncGenerator[Any, None]:
    async with (
        asyncio.timeout(patient(10)),
        client.stream("GET", PATH, headers={"Accept": accept}, timeout=patient(10)) as answer,
    ):
        yield answer.aiter_lines()


async def read_until(lines: Any, text: str) -> list[str]:
    read: list[str] = []
    async for line in lines:
        read.append(line)
        if text in line:
            return read
    raise AssertionError(f"ended before {text}: {read[-3:]}")


@pytest.mark.parametrize("accept", ACCEPTS)
async def test_attack_60_a_log_that_is_replaced_under_its_viewers_shows_new_ones_only_what_it_is_now(
    bus: Bus, client: httpx.AsyncClient, accept: str
) -> None:
    """By another program, and without a word: the page that the first viewer read was kept for those behind it."""
    publisher = bus.publisher("x")
    for number in range(COUNT):
        await publisher.emit("custom.entry", {"of": "first", "number": number})
    await publisher.aclose()
    async with live(client, accept) as lines:
        assert of_lines(await read_until(lines, "stream.caught_up")) == ["first"] * COUNT
        await bus.commands.command("DEL", *bus.keys.of_execution("x"))
        publisher = bus.publisher("x")
        for number in range(COUNT):
            await publisher.emit("custom.entry", {"of": "second", "number": number})
        await publisher.aclose()
        await read_until(lines, f'"of":"second","number":{COUNT - 1}')
        async with live(client, accept) as others:
            assert of_lines(await read_until(others, "stream.caught_up")) == ["second"] * COUNT
