"""How many empty jobs one worker process gets done, and what one costs: taken, leased, started, run, ended, let go.

The jobs are queued before the worker starts, so that it never waits for one; the pipeline has one step, which does
nothing. What is left is what the worker and the log do for every job, however little its work.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any, Final

from bench.accounting import cpu_seconds
from tailrace.bus import BusSettings, open_bus
from tailrace.bus.bus import Bus
from tailrace.workers import Context, Pipeline, Registry, Step, Worker, WorkerSettings

CONTENDERS: Final = ("tailrace",)
_WARM_JOBS: Final = 100
_SUBMITTERS: Final = 20
_LOOK_SECONDS: Final = 0.01


async def nothing(_: Context) -> None:
    pass


REGISTRY: Final = Registry([Pipeline("empty", (Step("nothing", nothing),))])


async def submit(bus: Bus, jobs: int) -> float:
    """Queue so many; how long that took."""
    clock = time.perf_counter()

    async def some() -> None:
        for _ in range(jobs // _SUBMITTERS):
            await bus.submit("empty", {})

    await asyncio.gather(*(some() for _ in range(_SUBMITTERS)))
    return time.perf_counter() - clock


async def work(bus: Bus, concurrency: int) -> None:
    """Until no job is left."""
    worker = Worker(bus, REGISTRY, WorkerSettings(concurrency=concurrency))
    working = asyncio.create_task(worker.run())
    while await bus.jobs.queues.length("default"):  # noqa: ASYNC110 - a queue sets no event when it is empty
        await asyncio.sleep(_LOOK_SECONDS)
    worker.stop()
    await working


async def main(order: dict[str, Any]) -> dict[str, float]:
    jobs, redis_pid = order["jobs"], order["redis_pid"]
    async with await open_bus(
        f"redis://127.0.0.1:{order['redis_port']}/0", settings=BusSettings(ended_seconds=60)
    ) as bus:
        await submit(bus, _WARM_JOBS)
        await work(bus, order["concurrency"])
        submitting_seconds = await submit(bus, jobs)
        redis_seconds, cpu, clock = cpu_seconds(redis_pid), time.process_time(), time.perf_counter()
        await work(bus, order["concurrency"])
        cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
        redis_seconds = cpu_seconds(redis_pid) - redis_seconds
    return {
        "jobs_per_second": jobs / clock,
        "us_per_job": cpu / jobs * 1e6,
        "redis_us_per_job": redis_seconds / jobs * 1e6,
        "submitted_per_second": jobs / submitting_seconds,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))
