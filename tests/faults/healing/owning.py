"""A program that runs executions, as a process to be killed: ``python -m tests.faults.healing.owning`` with an Order.

It prints ``begun RUN`` for each that has begun; ``lost RUN``, ``ended RUN`` or ``refused RUN`` when it is over here.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from typing import Literal

import orjson
from pydantic import BaseModel

from tailrace.bus import Bus, BusSettings, ExecutionClosedError, FenceStaleError, LeaseLostError, open_bus
from tailrace.bus.errors import BusError
from tailrace.bus.model.codec import encode
from tailrace.bus.model.event import Event
from tests.patience import patient
from tests.program import Program

EVENT_SECONDS = 0.02


class Order(BaseModel):
    """``does``: emit until killed; or block the event loop once; or renew its lease and take no notice of anything."""

    redis_url: str
    prefix: str
    runs: list[str]
    lease_seconds: float
    does: Literal["emit", "block", "ignore"] = "emit"
    block_seconds: float = 0.0
    on_uncertain: Literal["stop", "continue"] = "stop"


class OwnerProcess(Program):
    """Runs an order."""

    def __init__(self, order: Order) -> None:
        super().__init__("tests.faults.healing.owning", order, keeps="stdout")
        self.said: list[str] = []

    async def until(self, *lines: str, seconds: float = 30.0) -> None:
        """Wait until it has said all of these."""
        async with asyncio.timeout(patient(seconds)):
            while not set(lines) <= set(self.said):
                await self._hear()

    async def until_over(self, run: str, *, seconds: float = 30.0) -> None:
        """Wait until it has said that a run is over for it, in whatever way it learnt of it."""
        async with asyncio.timeout(patient(seconds)):
            while not {f"lost {run}", f"ended {run}", f"refused {run}"} & set(self.said):
                await self._hear()

    async def _hear(self) -> None:
        line = await asyncio.to_thread(self.read_line)
        assert line, f"it ended, having said {self.said}"
        self.said.append(line)


def _say(word: str, run: str) -> None:
    print(word, run, flush=True)


async def _emit(bus: Bus, run: str, order: Order) -> None:
    try:
        async with bus.execution(run, on_uncertain=order.on_uncertain) as execution:
            k = 0
            while True:
                await execution.append("custom.counted", {"attempt": execution.attempt, "k": k})
                k += 1
                if k == 1:
                    _say("begun", run)
                if k == 5 and order.does == "block":
                    time.sleep(order.block_seconds)  # noqa: ASYNC251 - a step that does what it must not
                await asyncio.sleep(EVENT_SECONDS)
    except LeaseLostError:
        _say("lost", run)
    except ExecutionClosedError:
        _say("ended", run)
    except BusError:
        _say("refused", run)


async def _ignore(bus: Bus, run: str) -> None:
    """As a program in another language might: it knows leases and fences, and has never heard of cancellation."""
    lease = await bus.leases.take(run, "deaf")
    bus.heartbeat.keep(lease, lambda _: None, lambda _: None)
    started = encode(Event("execution.started", {"attempt": lease.attempt}), ts="2026-01-01T00:00:00Z")
    await bus.log.append(run, [started], fence=lease.fence)
    _say("begun", run)
    try:
        for k in itertools.count():
            event = encode(Event("custom.counted", {"k": k}), ts="2026-01-01T00:00:00Z")
            await bus.log.append(run, [event], fence=lease.fence)
            await asyncio.sleep(EVENT_SECONDS)
    except (ExecutionClosedError, FenceStaleError):
        _say("ended", run)


async def main(order: Order) -> None:
    settings = BusSettings(prefix=order.prefix, lease_seconds=order.lease_seconds)
    async with await open_bus(order.redis_url, settings=settings) as bus, asyncio.TaskGroup() as group:
        for run in order.runs:
            group.create_task(_ignore(bus, run) if order.does == "ignore" else _emit(bus, run, order))


if __name__ == "__main__":
    asyncio.run(main(Order.model_validate(orjson.loads(sys.stdin.buffer.read()))))
