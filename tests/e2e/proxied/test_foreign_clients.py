"""Clients that others wrote, behind a load balancer that spreads connections, while gateways die and drain."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import orjson
import pytest

from tailrace.bus import Bus
from tests.e2e.proxied.clients import CLIENTS, Got
from tests.e2e.proxied.haproxy import Haproxy
from tests.e2e.proxied.pair import Pair
from tests.patience import patient

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

EVENTS = 600
PUBLISH_SECONDS = 8.0
DEADLINE_SECONDS = 90.0


async def publish(bus: Bus, run: str) -> None:
    async with bus.execution(run) as execution:
        for k in range(EVENTS):
            await execution.emit("custom.counted", {"k": k, "text": "a\nb\r\n😀\u2028"})
            await asyncio.sleep(PUBLISH_SECONDS / EVENTS)


async def log_of(bus: Bus, run: str) -> Got:
    raw = await bus.commands.command("XRANGE", bus.keys.log(run), "-", "+")
    fields = [(entry_id, dict(zip(flat[::2], flat[1::2], strict=True))) for entry_id, flat in raw]
    return [(entry_id.decode(), each[b"t"].decode(), orjson.loads(each[b"d"])) for entry_id, each in fields]


async def test_every_client_gets_exactly_the_log_though_one_gateway_is_killed_and_the_other_drained(
    bus: Bus, run: str, pair: Pair, node: Path, tmp_path: Path
) -> None:
    with Haproxy(pair.urls, tmp_path) as proxy:
        await asyncio.to_thread(proxy.await_ready)
        async with asyncio.timeout(patient(DEADLINE_SECONDS)), asyncio.TaskGroup() as group:
            publishing = group.create_task(publish(bus, run))
            await entries(bus, run, 1)
            watching = {
                f"{name} {number}": group.create_task(client(proxy.url, run, node))
                for name, client in CLIENTS.items()
                for number in range(2)
            }
            await entries(bus, run, EVENTS // 4)
            await asyncio.to_thread(pair.end, 0, signal.SIGKILL)
            await asyncio.to_thread(pair.bring_back, 0)
            await asyncio.to_thread(proxy.await_both_up)
            await entries(bus, run, EVENTS // 2)
            assert await asyncio.to_thread(pair.end, 1, signal.SIGTERM) == 0
            await asyncio.to_thread(pair.bring_back, 1)
            await publishing
        log = await log_of(bus, run)
    assert [data["k"] for _, kind, data in log if kind == "custom.counted"] == list(range(EVENTS))
    wrong = {name: len(task.result()) for name, task in watching.items() if task.result() != log}
    assert not wrong, f"of {len(log)} entries they got {wrong}"


async def entries(bus: Bus, run: str, enough: int) -> None:
    """Return when so many entries have been appended."""
    count = 0
    async for _ in bus.follow(run):
        count += 1
        if count >= enough:
            return
