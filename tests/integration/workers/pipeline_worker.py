"""A worker process of a test's own pipelines: ``python pipeline_worker.py URL PREFIX LEASE_SECONDS``."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from tailrace.bus import BusSettings, open_bus
from tailrace.workers import Context, Pipeline, Registry, Step, Worker, WorkerSettings
from tests.integration.workers import programs


async def count(ctx: Context) -> dict[str, int]:
    await ctx.log(f"counting in attempt {ctx.attempt}")
    return {"n": 1}


async def pages(ctx: Context, count: dict[str, int]) -> int:
    """Says where it is and is never done with page 3 in its first attempt."""
    page = 0 if ctx.restored is None else ctx.restored["page"]
    while page < 5:
        if page == 3 and ctx.attempt == 1:
            await ctx.emit("custom.stuck", {"page": page})
            await asyncio.Event().wait()
        page += 1
        await ctx.emit("custom.page", {"page": page, "attempt": ctx.attempt})
        await ctx.checkpoint({"page": page})
    return page + count["n"]


async def review(ctx: Context) -> Any:
    answer = await ctx.ask("Publish?", {"type": "string"})
    if ctx.attempt == 1 and answer == "then die":
        await ctx.emit("custom.stuck")
        await asyncio.Event().wait()
    return answer


PIPELINES = Registry(
    [
        Pipeline("pages", (Step("count", count), Step("pages", pages))),
        Pipeline("review", (Step("review", review),)),
        Pipeline("block", (Step("block", programs.block, process=True),), programs.Given),
    ]
)


async def main(url: str, prefix: str, lease_seconds: str) -> None:
    settings = BusSettings(prefix=prefix, lease_seconds=float(lease_seconds))
    async with await open_bus(url, settings=settings) as bus:
        await Worker(bus, PIPELINES, WorkerSettings()).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
