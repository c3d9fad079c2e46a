"""A publisher as a process of its own: ``python -m tests.e2e.publishing`` with what to publish as JSON on its input.

What event number k of a run says is a pure function of both, so that whoever reads the log can tell what was meant.
"""

from __future__ import annotations

import asyncio
import random
import sys
from typing import Any

import orjson
from pydantic import BaseModel

from tailrace.bus import BusSettings, open_bus
from tests.patience import patient
from tests.program import Program

TYPES = ("custom.even", "custom.odd", "step.progress", "log")
# What breaks frames that are put together carelessly.
_AWKWARD = ("", "a\nb\r\nc", "data: x\n\nid: 1-1\n\n", "\u2028\u0085\u0000", "😀" * 3, '"}\\', "x" * 700)


class Order(BaseModel):
    redis_url: str
    prefix: str
    runs: list[str]
    events_a_run: int
    seconds: float
    seed: int


def event_of(run: str, k: int) -> tuple[str, dict[str, Any]]:
    return TYPES[k % len(TYPES)], {"run": run, "k": k, "text": _AWKWARD[k % len(_AWKWARD)]}


class PublisherProcess(Program):
    """Runs an order."""

    def __init__(self, order: Order) -> None:
        super().__init__("tests.e2e.publishing", order, keeps="stderr")

    def wait(self, timeout_seconds: float) -> None:
        """Raises AssertionError with its last words when it failed."""
        _, errors = self._process.communicate(timeout=patient(timeout_seconds))
        assert self._process.returncode == 0, errors.decode()[-3000:]


async def _publish_all(order: Order) -> None:
    async with await open_bus(order.redis_url, settings=BusSettings(prefix=order.prefix)) as bus:

        async def publish(run: str) -> None:
            pace = random.Random(f"{order.seed}:{run}")
            loop = asyncio.get_running_loop()
            begun = loop.time()
            async with bus.execution(run) as execution:
                done = 0
                while done < order.events_a_run:
                    # Bursts, and pauses between them, that come out at the time given.
                    burst = range(done, min(order.events_a_run, done + pace.choice((1, 1, 5, 40, 200))))
                    for k in burst:
                        await execution.emit(*event_of(run, k))
                    done = burst.stop
                    due = begun + order.seconds * done / order.events_a_run
                    await asyncio.sleep(max(0.0, due - loop.time()) * pace.uniform(0.5, 1.5))

        async with asyncio.TaskGroup() as group:
            for run in order.runs:
                group.create_task(publish(run))


if __name__ == "__main__":
    asyncio.run(_publish_all(Order.model_validate(orjson.loads(sys.stdin.buffer.read()))))
