"""A healer as a process, to be killed over a decision: ``python -m tests.faults.healing.deciding`` with an Order.

Told to ``hang``, it prints ``taken RUN`` when it has taken an orphan, and never decides.
"""

from __future__ import annotations

import asyncio
import sys

import orjson
from pydantic import BaseModel

from tailrace.bus import BusSettings, open_bus
from tailrace.bus.healing.healer import Healer
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.event import Event
from tailrace.bus.ownership.lease import Orphan
from tests.patience import patient
from tests.program import Program


class Order(BaseModel):
    redis_url: str
    prefix: str
    lease_seconds: float
    hang: bool = False


class HealerProcess(Program):
    """Heals until it is killed."""

    def __init__(self, order: Order) -> None:
        super().__init__("tests.faults.healing.deciding", order, keeps="stdout")

    async def next_line(self, *, seconds: float = 30.0) -> str:
        async with asyncio.timeout(patient(seconds)):
            return await asyncio.to_thread(self.read_line)


async def _hang(_: Healer, orphan: Orphan, event: Event) -> Cursor:
    del event
    print("taken", orphan.lease.execution_id, flush=True)
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def main(order: Order) -> None:
    if order.hang:
        Healer._append = _hang  # type: ignore[method-assign, assignment]
    settings = BusSettings(prefix=order.prefix, lease_seconds=order.lease_seconds)
    async with await open_bus(order.redis_url, settings=settings) as bus:
        print("ready", flush=True)
        await bus.healer.run()


if __name__ == "__main__":
    asyncio.run(main(Order.model_validate(orjson.loads(sys.stdin.buffer.read()))))
