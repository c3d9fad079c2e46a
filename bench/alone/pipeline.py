"""What streaming costs a pipeline: the same work with every event published, and with every event thrown away.

The work is a typical LLM pipeline. Each of its steps first prepares a prompt (CPU: JSON, a regular expression and a
hash over a document), then reads a model's answer, a token every 10 ms, and hands each on as it comes. A wait begins
when the token before was handed on, so that whatever handing on costs adds to the duration and hides behind nothing.
Both have the same lease, heartbeat and checkpoints; they differ in where events go. They run in the order without,
with, with, without, so that a machine that gets slower or faster meanwhile favours neither.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
import time
from typing import Any, Final

import orjson
import redis.asyncio

from bus import open_bus
from bus.bus import Bus
from bus.execution import Execution
from workers.context import Context
from workers.pipeline import Pipeline, Step
from workers.run import BusRun
from workers.runner import run_steps

CONTENDERS: Final = ("tailrace", "xadd-awaited")
TOKENS: Final = 20
TOKEN_SECONDS: Final = 0.01
EVENTS_A_STEP: Final = TOKENS + 3  # it starts, it progresses, it completes
_DOCUMENT: Final = {
    "pages": [{"number": n, "text": "the water that has done its work runs off " * 20} for n in range(40)]
}
_WORDS: Final = re.compile(r"\w+")


def prepare() -> str:
    """Some 40 ms of CPU."""
    digest = hashlib.sha256()
    for _ in range(6):
        text = json.dumps(_DOCUMENT)
        for page in json.loads(text)["pages"]:
            digest.update(" ".join(word.lower() for word in _WORDS.findall(page["text"])).encode())
    return digest.hexdigest()


async def answer(context: Context) -> str:
    prepare()
    await context.progress(0.2, "asking the model")
    for number in range(TOKENS):
        await asyncio.sleep(TOKEN_SECONDS)
        await context.token(f"word{number} ")
    return "done"


class Discarding(BusRun):
    async def emit(self, event_type: str, data: Any = None, *, step: str | None = None) -> None:
        pass


class AwaitingEach(BusRun):
    """As it is written by hand: an awaited XADD for every event."""

    def __init__(self, bus: Bus, execution: Execution, client: redis.asyncio.Redis) -> None:
        super().__init__(bus, execution)
        self._client = client
        self._key = f"{execution.id}:by-hand"

    async def emit(self, event_type: str, data: Any = None, *, step: str | None = None) -> None:
        shown = orjson.dumps({"type": event_type, "step": step, "data": data})
        await self._client.xadd(self._key, {"d": shown}, maxlen=100_000)


async def seconds_of(bus: Bus, pipeline: Pipeline, client: redis.asyncio.Redis, contender: str) -> tuple[float, float]:
    """Wall-clock and CPU of one execution, from taking its lease until its ending is in the log."""
    clock, cpu = time.perf_counter(), time.process_time()
    async with bus.execution() as execution:
        run: BusRun = Discarding(bus, execution)
        if contender == "tailrace":
            run = BusRun(bus, execution)
        elif contender == "xadd-awaited":
            run = AwaitingEach(bus, execution, client)
        await run_steps(pipeline, run, {})
    return time.perf_counter() - clock, time.process_time() - cpu


async def main(order: dict[str, Any]) -> dict[str, float]:
    contender = order["contender"]
    pipeline = Pipeline("typical", tuple(Step(f"step{number}", answer) for number in range(order["steps"])))
    warming = Pipeline("warming", (Step("step0", answer),))
    client = redis.asyncio.Redis(port=order["redis_port"])
    async with await open_bus(f"redis://127.0.0.1:{order['redis_port']}/0") as bus:
        for leg in ("discarding", contender):
            await seconds_of(bus, warming, client, leg)
        first, second, third, fourth = [
            await seconds_of(bus, pipeline, client, leg) for leg in ("discarding", contender, contender, "discarding")
        ]
    await client.aclose()
    with_seconds, with_cpu_seconds = map(sum, zip(second, third, strict=True))
    without_seconds, without_cpu_seconds = map(sum, zip(first, fourth, strict=True))
    return {
        "slowdown_percent": (with_seconds / without_seconds - 1) * 100,
        "with_seconds": with_seconds / 2,
        "without_seconds": without_seconds / 2,
        "cpu_us_per_event": (with_cpu_seconds - without_cpu_seconds) / (2 * order["steps"] * EVENTS_A_STEP) * 1e6,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))
