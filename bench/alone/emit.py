"""What a producer pays to state an event: CPU of its process, waiting for Redis left out, Redis apart.

All contenders make the same events in the same loops, one task an execution, and end when Redis has the last one. A
contender that awaits a reply for each gets a tenth of the events: it has no batches.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import redis.asyncio

from bench.accounting import cpu_seconds
from tailrace.bus import open_bus

CONTENDERS: Final = ("tailrace", "xadd-awaited", "xadd-pipeline100")
_TYPE: Final = "step.progress"
_STEP: Final = "fetch"
_WARM_EVENTS: Final = 2000
_PIPELINE: Final = 100

Produce = Callable[[str, int], Awaitable[None]]
"""Appends so many events to an execution and returns when they are in the log."""


def data(number: int) -> dict[str, Any]:
    """About 100 bytes of JSON, made anew for every event as a pipeline does."""
    return {
        "progress": number % 1000 / 1000,
        "message": f"fetched page {number:07d}; the water that has done its work runs off",
    }


async def through_publisher(port: int, produced: Callable[[Produce], Awaitable[None]]) -> None:
    async with await open_bus(f"redis://127.0.0.1:{port}/0") as bus:

        async def produce(execution_id: str, events: int) -> None:
            publisher = bus.publisher(execution_id)
            for number in range(events):
                await publisher.emit(_TYPE, data(number), step=_STEP)
            await publisher.aclose()

        await produced(produce)


def fields(number: int) -> dict[Any, Any]:
    """What a careful team writes by hand: the same fields, JSON by orjson."""
    return {
        "t": _TYPE,
        "s": _STEP,
        "ts": datetime.now(UTC).isoformat(),
        "d": orjson.dumps(data(number)),
    }


async def awaiting_each(port: int, produced: Callable[[Produce], Awaitable[None]]) -> None:
    client = redis.asyncio.Redis(port=port)

    async def produce(execution_id: str, events: int) -> None:
        key = f"tr:{{{execution_id}}}:log"
        for number in range(events):
            await client.xadd(key, fields(number), maxlen=100_000)

    await produced(produce)
    await client.aclose()


async def in_pipelines(port: int, produced: Callable[[Produce], Awaitable[None]]) -> None:
    client = redis.asyncio.Redis(port=port)

    async def produce(execution_id: str, events: int) -> None:
        key = f"tr:{{{execution_id}}}:log"
        for start in range(0, events, _PIPELINE):
            pipeline = client.pipeline(transaction=False)
            for number in range(start, min(events, start + _PIPELINE)):
                pipeline.xadd(key, fields(number), maxlen=100_000)
            await pipeline.execute()

    await produced(produce)
    await client.aclose()


_WAYS: Final = dict(zip(CONTENDERS, (through_publisher, awaiting_each, in_pipelines), strict=True))


async def main(order: dict[str, Any]) -> dict[str, float]:
    events, runs, redis_pid = order["events"], order["runs"], order["redis_pid"]
    if order["contender"] == "xadd-awaited":
        events //= 10
    figures: dict[str, float] = {}

    async def produced(produce: Produce) -> None:
        await produce("warm", _WARM_EVENTS)
        redis_seconds, cpu, clock = cpu_seconds(redis_pid), time.process_time(), time.perf_counter()
        await asyncio.gather(*(produce(f"run-{run}", events // runs) for run in range(runs)))
        cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
        figures["us_per_event"] = cpu / events * 1e6
        figures["redis_us_per_event"] = (cpu_seconds(redis_pid) - redis_seconds) / events * 1e6
        figures["events_per_second"] = events / clock

    await _WAYS[order["contender"]](order["redis_port"], produced)
    return figures


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))
