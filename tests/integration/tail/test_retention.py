"""A log is bounded while it is written, and gone soon after it has ended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from tailrace.bus import Bus, BusSettings, open_bus
from tests.e2e.waiting import eventually
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

MAX_ENTRIES = 1000
MAX_BYTES = 256 * 1024
# Redis trims whole nodes, of at most 100 entries (stream-node-max-entries).
MOST_ENTRIES = MAX_ENTRIES + 100
# Memory is looked at once a sixteenth of the bound was appended.
MOST_BYTES = MAX_BYTES * 18 // 16


@dataclass(frozen=True, slots=True)
class Sample:
    entries: int
    log_bytes: int
    all_bytes: int


async def sample(bus: Bus, run: str) -> Sample:
    used = [await bus.commands.command("MEMORY", "USAGE", key, "SAMPLES", 0) or 0 for key in bus.keys.of_execution(run)]
    return Sample(await bus.commands.command("XLEN", bus.keys.log(run)), used[0], sum(used))


@pytest.mark.parametrize(("count", "size_bytes"), [(30_000, 20), (20_000, 400), (600, 20_000)])
async def test_case_16_a_run_that_writes_far_more_than_its_retention_stays_within_it_and_expires(
    fresh_server: RunningServer, prefix: str, count: int, size_bytes: int
) -> None:
    """Source: dify 41566 (3.9 GB of streams), dust 21484, PostHog 71302."""
    settings = BusSettings(prefix=prefix, max_entries=MAX_ENTRIES, max_log_bytes=MAX_BYTES, ended_seconds=1)
    async with await open_bus(fresh_server.url, settings=settings) as bus:
        publisher = bus.publisher("run")
        samples = []
        for number in range(count):
            await publisher.emit("custom.large", {"k": number, "text": "x" * size_bytes})
            if number % (count // 60) == 0:
                samples.append(await sample(bus, "run"))
        await publisher.append("execution.completed", {})
        await publisher.aclose()
        samples.append(await sample(bus, "run"))
        written_bytes = count * size_bytes
        most = max(samples, key=lambda taken: taken.log_bytes)
        print(f"{written_bytes} bytes written, at most {most.log_bytes} kept in {most.entries} entries")
        assert written_bytes > 2 * MAX_BYTES
        assert max(taken.entries for taken in samples) <= MOST_ENTRIES
        assert max(taken.log_bytes for taken in samples) <= MOST_BYTES
        # The state does not grow with what is written.
        assert max(taken.all_bytes - taken.log_bytes for taken in samples) < 2048
        # The bound is not kept by throwing away what there is room for.
        assert samples[-1].entries >= MAX_ENTRIES * 0.9 or samples[-1].log_bytes > MAX_BYTES * 0.7

        async def gone() -> bool:
            """the ended log has expired"""
            return not await bus.commands.command("EXISTS", bus.keys.log("run"))

        await eventually(gone, seconds=4)
        state = await bus.state("run")
        assert state is not None
        assert state.status == "completed"


async def test_case_16_a_thousand_ended_runs_leave_no_memory_behind(fresh_server: RunningServer, prefix: str) -> None:
    """Source: dify 41566: streams of runs that had ended long ago, kept for ever."""
    settings = BusSettings(prefix=prefix, ended_seconds=1, ended_state_seconds=1)
    async with await open_bus(fresh_server.url, settings=settings) as bus:
        before = await dataset_bytes(bus)

        async def run_one(number: int) -> None:
            publisher = bus.publisher(f"run-{number}")
            for _ in range(10):
                await publisher.emit("custom.large", {"text": "x" * 2000})
            await publisher.append("execution.completed", {})
            await publisher.aclose()

        for start in range(0, 1000, 100):
            await asyncio.gather(*(run_one(start + number) for number in range(100)))
        assert await dataset_bytes(bus) > before + 1_000_000

        async def nothing_left() -> bool:
            """no key of an execution is left, nor what it took"""
            keys = await bus.commands.command("KEYS", f"{prefix}:{{*")
            return not keys and await dataset_bytes(bus) < before + 1_000_000

        await eventually(nothing_left, seconds=15)


async def dataset_bytes(bus: Bus) -> int:
    said = bytes(await bus.commands.command("INFO", "memory")).decode()
    return int(said.partition("used_memory_dataset:")[2].split()[0])
