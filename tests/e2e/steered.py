"""A program that runs an execution in a process of its own: ``python -m tests.e2e.steered`` with an order as JSON.

It says so often that it runs that whoever takes it for stopped too early is found out.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Literal

from pydantic import BaseModel

from tailrace.bus import BusError, BusSettings, Execution, open_bus
from tests.patience import patient
from tests.program import Program

EVERY_SECONDS = 0.01


class Order(BaseModel):
    """``stops`` says how it takes a cancellation: at once, after ``cleanup_seconds`` of further events, or never."""

    redis_url: str
    prefix: str
    run: str
    lease_seconds: float = 10.0
    stops: Literal["at once", "after a while", "never"] = "at once"
    cleanup_seconds: float = 0.7


class SteeredProcess(Program):
    def __init__(self, order: Order) -> None:
        super().__init__("tests.e2e.steered", order, keeps="stderr")

    def wait(self, timeout_seconds: float = 20.0) -> int:
        return self._process.wait(patient(timeout_seconds))


async def run(order: Order) -> None:
    settings = BusSettings(prefix=order.prefix, lease_seconds=order.lease_seconds)
    async with await open_bus(order.redis_url, settings=settings) as bus:
        with contextlib.suppress(asyncio.CancelledError, BusError):
            async with bus.execution(order.run) as execution:
                await _body(execution, order)


async def _body(execution: Execution, order: Order) -> None:
    try:
        await _keep_saying(execution)
    except asyncio.CancelledError:
        if order.stops == "after a while":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(order.cleanup_seconds):
                    await _keep_saying(execution)
        while order.stops == "never":
            with contextlib.suppress(asyncio.CancelledError):
                await _keep_saying(execution)
        raise


async def _keep_saying(execution: Execution) -> None:
    while True:
        await execution.append("custom.running")
        await asyncio.sleep(EVERY_SECONDS)


if __name__ == "__main__":
    asyncio.run(run(Order.model_validate_json(sys.stdin.read())))
