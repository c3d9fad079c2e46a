"""Starts the application with a worker and an offline model on an embedded server, measures what streaming costs, and
prints a verdict.

``--transcript`` prints what is said while pipeline.json runs instead.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from examples.stories import TRANSCRIPT, Processes, free_ports, ready, told
from tailrace import Bus, open_bus

HERE = Path(__file__).parent
ANN = {"Authorization": "Bearer token-of-ann"}
PIPELINE = json.loads((HERE / "pipeline.json").read_text())
TEXT = "to be or not to be that is the question"
VIEWERS, PAIRS, WORDS = 100, 5, 40
MAX_OVERHEAD_PERCENT, MAX_LATENCY_MS, MAX_GROWTH_MB = 1.0, 50.0, 100.0
# What else runs on the machine only makes it slower, so the best of a few counts.
TRIES = 4


def counting(seconds: float, streaming: dict[str, Any]) -> dict[str, Any]:
    steps = [{"name": "count", "run": "count", "options": {"seconds": seconds}}]
    return {"pipeline": {"name": "story", "streaming": streaming, "steps": steps}, "input": {"text": "word " * WORDS}}


async def took_ms(client: httpx.AsyncClient, bus: Bus, streaming: dict[str, Any]) -> int:
    """From its start to its end, by the clock of the log."""
    begun = (await client.post("/pipelines/run", json=counting(0.05, streaming))).json()
    await bus.handle(begun["execution_id"]).result(60)
    state = await bus.handle(begun["execution_id"]).state()
    return (state.ended_ms or 0) - (state.started_ms or 0)


async def overhead_percent(client: httpx.AsyncClient, bus: Bus) -> float:
    """The median of pairs that run at the same time, one with streaming and one without: both wait for the same."""
    ratios = []
    for _ in range(2):
        times = await asyncio.gather(
            *(took_ms(client, bus, {**PIPELINE["streaming"], "enabled": enabled}) for enabled in [False, True] * PAIRS)
        )
        ratios += [on / off for off, on in zip(times[::2], times[1::2], strict=True)]
    return 100 * (statistics.median(ratios) - 1)


async def view(client: httpx.AsyncClient, path: str, came: list[tuple[float, float]]) -> tuple[str, float]:
    """Gives the name of the last event, and when this viewer was there; ``came`` gets when each event was, and came."""
    name = ""
    async with client.stream("GET", path) as response:
        there = time.time()
        async for line in response.aiter_lines():
            if line.startswith("id: "):
                seconds, _, rest = line.removeprefix("id: ").partition(".")
                came.append((int(seconds) + int(rest[:3]) / 1000, time.time()))
            elif line.startswith("event: "):
                name = line.removeprefix("event: ")
    return name, there


async def watched_by_all(client: httpx.AsyncClient) -> tuple[set[str], float, float]:
    """How it ends for the viewers, and how many ms events take once all are there: the median, and that of 95 %."""
    streaming = {**PIPELINE["streaming"], "flush_interval_ms": 10}
    begun = (await client.post("/pipelines/run", json=counting(0.1, streaming))).json()
    came: list[tuple[float, float]] = []
    viewers = await asyncio.gather(*(view(client, begun["stream"], came) for _ in range(VIEWERS)))
    all_there = max(there for _, there in viewers)
    delays_ms = sorted(1000 * (here - at) for at, here in came if at > all_there)
    return {name for name, _ in viewers}, statistics.median(delays_ms), delays_ms[len(delays_ms) * 95 // 100]


def memory_mb(pid: int) -> float:
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def story(url: str, redis_url: str, server_pid: int) -> bool:
    limits = httpx.Limits(max_connections=VIEWERS + 10)
    async with (
        await open_bus(redis_url) as bus,
        httpx.AsyncClient(base_url=url, headers=ANN, timeout=60, limits=limits) as client,
    ):
        streamed = await answer_of(client)
        alone = await client.post(
            "/pipelines/run", json={"pipeline": {**PIPELINE, "streaming": {"enabled": False}}, "input": {"text": TEXT}}
        )
        same = alone.json()["output"] == streamed[-1][1]["output"]
        tokens = sum("token" in data for _, data in streamed)
        before = memory_mb(server_pid)
        overhead = median_ms = worst_ms = float("inf")
        names: set[str] = set()
        for _ in range(TRIES):
            overhead = min(overhead, await overhead_percent(client, bus))
            if overhead < MAX_OVERHEAD_PERCENT:
                break
        for _ in range(TRIES):
            names, median_ms, worst_ms = await watched_by_all(client)
            if median_ms < MAX_LATENCY_MS:
                break
        grown = memory_mb(server_pid) - before
    good = same and tokens > 1 and names == {"pipeline_complete"}
    good = good and overhead < MAX_OVERHEAD_PERCENT and median_ms < MAX_LATENCY_MS and grown < MAX_GROWTH_MB
    print(
        f"pipeline: {'passed' if good else 'FAILED'}: {tokens} entries of tokens, same result without streaming, which"
        f" costs {overhead:.2f} %; {VIEWERS} viewers, latency {median_ms:.1f} ms (95 %: {worst_ms:.1f} ms);"
        f" the instance grew by {grown:.1f} MB"
    )
    return good


async def answer_of(client: httpx.AsyncClient, told: Any = lambda *_: None) -> list[tuple[str, dict[str, Any]]]:
    """Runs pipeline.json, and gives its events."""
    begun = await client.post("/pipelines/run", json={"pipeline": PIPELINE, "input": {"text": TEXT}})
    told(begun.status_code, begun.text)
    begun.raise_for_status()
    events: list[tuple[str, dict[str, Any]]] = []
    async with client.stream("GET", begun.json()["stream"]) as response:
        name = ""
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                events.append((name, json.loads(line.removeprefix("data: "))))
                told(name, line.removeprefix("data: "))
    return events


async def transcript(url: str) -> bool:
    """``<`` is what comes: of events their name and data."""
    async with httpx.AsyncClient(base_url=url, headers=ANN, timeout=60) as client:
        print("> POST /pipelines/run", json.dumps({"pipeline": PIPELINE, "input": {"text": TEXT}}))
        events = await answer_of(client, lambda name, data: print("<", name, data))
    return events[-1][0] == "pipeline_complete"


async def tell(app: Processes) -> bool:
    port, model_port = free_ports(2)
    app.environment |= {"OPENAI_BASE_URL": f"http://127.0.0.1:{model_port}/v1", "OPENAI_API_KEY": "offline"}
    server = app.serve(port)
    app.work("steps:steps")
    app.start("../offline_model/offline_model.py", "--port", str(model_port))
    url = f"http://127.0.0.1:{port}"
    await ready([f"{url}/readyz"])
    return await (transcript(url) if TRANSCRIPT else story(url, app.redis_url, server.pid))


if __name__ == "__main__":
    sys.exit(told(__file__, tell))
