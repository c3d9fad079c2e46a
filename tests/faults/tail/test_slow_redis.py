"""Redis is far away, and the pipeline does not feel it."""

from __future__ import annotations

import asyncio
import time

import pytest

from tailrace.bus import START, Bus, Entry, open_bus
from tailrace.bus.model.continuity import Numbering
from tests.faults.tail.proxy import proxy
from tests.integration.tail.commandstats import calls
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

ROUND_TRIP_SECONDS = 0.05
COUNT = 1000


@pytest.mark.parametrize("kind", ["token", "custom.counted"])
async def test_case_15_a_thousand_emits_cost_their_pipeline_no_round_trips(
    fresh_server: RunningServer, run: str, kind: str
) -> None:
    """Source: agentex-python 333, LibreChat 13968: an awaited write a token made answers 16 % and 45 s slower."""
    async with proxy(fresh_server, delay_seconds=ROUND_TRIP_SECONDS) as far, await open_bus(far.url) as bus:
        awaited_seconds = await seconds_of_an_awaited_write(bus, f"{run}-awaited")
        publisher = bus.publisher(run)
        await publisher.append("custom.first")
        before = calls(fresh_server)
        begun = time.perf_counter()
        emit_seconds = 0.0
        for number in range(COUNT):
            at = time.perf_counter()
            await publisher.emit(kind, {"text": f"{number} "}, step="answer")
            emit_seconds += time.perf_counter() - at
            # As a model's next token lets itself be waited for; appends go on meanwhile.
            await asyncio.sleep(0.001)
        await publisher.flush()
        took_seconds = time.perf_counter() - begun
        appends = (calls(fresh_server) - before)["evalsha"]
        entries = await texts(bus, run)
        await publisher.aclose()
    print(
        f"{emit_seconds * 1e6 / COUNT:.0f} us an emit, {appends} appends, {len(entries)} entries, {took_seconds:.1f} s"
    )
    assert awaited_seconds >= ROUND_TRIP_SECONDS
    # A hundredth of what awaiting each would have cost.
    assert emit_seconds < awaited_seconds * COUNT / 100
    # One append is under way at a time.
    assert 1 < appends <= took_seconds / ROUND_TRIP_SECONDS + 1
    assert "".join(entries) == "".join(f"{number} " for number in range(COUNT))
    assert len(entries) == (appends if kind == "token" else COUNT)


async def test_case_15_emits_wait_for_a_far_redis_only_when_the_buffer_is_full(
    fresh_server: RunningServer, run: str
) -> None:
    """Source: LibreChat 14614. What nobody bounds is a memory leak: a full buffer slows its pipeline, and says so."""
    async with proxy(fresh_server, delay_seconds=ROUND_TRIP_SECONDS) as far, await open_bus(far.url) as bus:
        publisher = bus.publisher(run, max_buffered_events=100)
        waits: list[int] = []
        for number in range(500):
            await publisher.emit("custom.counted", {"text": f"{number} "})
            waits.append(bus.counters["publish_waits"])
            assert publisher._outbox.held_events <= 100
        await publisher.aclose()
        assert waits[99] == 0
        assert 4 <= waits[-1] <= 500
        assert await texts(bus, run) == [f"{number} " for number in range(500)]


async def seconds_of_an_awaited_write(bus: Bus, run: str) -> float:
    publisher = bus.publisher(run)
    await publisher.append("custom.first")
    begun = time.perf_counter()
    for number in range(5):
        await publisher.append("token", {"text": f"{number} "})
    took = time.perf_counter() - begun
    await publisher.aclose()
    return took / 5


async def texts(bus: Bus, run: str) -> list[str]:
    page = await bus.log.read(run, Numbering.after(START), count=2 * COUNT)
    return [item.data["text"] for item in page.items if isinstance(item, Entry) and item.data]
