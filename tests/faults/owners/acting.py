"""A program that acts as an owner, as a process: ``python -m tests.faults.owners.acting`` with an Order.

It notes when it acts, as Unix milliseconds, in a file; and prints ``begun``, then ``over WHY``.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import orjson
from pydantic import BaseModel

from tailrace.bus import BusSettings, open_bus
from tailrace.bus.errors import BusError
from tests.patience import patient
from tests.program import Program

ACT_SECONDS = 0.005


class Order(BaseModel):
    redis_url: str
    prefix: str
    run: str
    lease_seconds: float
    acts: str


class ActingProcess(Program):
    def __init__(self, order: Order) -> None:
        super().__init__("tests.faults.owners.acting", order, keeps="stdout")
        self._acts = Path(order.acts)

    async def next_line(self) -> str:
        async with asyncio.timeout(patient(30)):
            return await asyncio.to_thread(self.read_line)

    @property
    def last_act_ms(self) -> int:
        return int(self._acts.read_text().split()[-1])


async def main(order: Order) -> None:
    settings = BusSettings(prefix=order.prefix, lease_seconds=order.lease_seconds)
    acts = os.open(order.acts, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    async with await open_bus(order.redis_url, settings=settings) as bus:
        try:
            async with bus.execution(order.run):
                print("begun", flush=True)
                while True:
                    os.write(acts, f"{time.time_ns() // 1_000_000}\n".encode())
                    await asyncio.sleep(ACT_SECONDS)
        except BusError as error:
            print("over", type(error).__name__, flush=True)


if __name__ == "__main__":
    asyncio.run(main(Order.model_validate(orjson.loads(sys.stdin.buffer.read()))))
