"""What it costs to ask for the newest entries of a log whose entries are large."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import httpx
import pytest

from tailrace.bus import Bus

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


async def sent_bytes(bus: Bus) -> int:
    """What Redis has sent to anybody."""
    info = (await bus.commands.command("INFO", "stats")).decode()
    return int(info.partition("total_net_output_bytes:")[2].partition("\r")[0])


async def test_attack_54_a_page_that_begins_far_back_moves_what_it_shows_and_not_what_it_passes(
    bus: Bus, client: httpx.AsyncClient
) -> None:
    async with aclosing(bus.publisher("e")) as publisher:
        for number in range(1000):
            await publisher.emit("custom.large", {"number": number, "text": "x" * 50_000})
    before = await sent_bytes(bus)
    asked = {"last": "900", "limit": "1"}
    pages = await asyncio.gather(*(client.get("/v1/executions/e/events", params=asked) for _ in range(40)))
    moved = await sent_bytes(bus) - before
    assert [page.json()["items"][0]["data"]["number"] for page in pages] == [100] * 40
    # Forty pages of one event each; it was 45 MB for each of them.
    assert moved < 20 * MIB
