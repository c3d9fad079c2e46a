"""A healer as a process, to be killed over a decision: ``python -m tests.faults.healing.deciding`` with an Order.

Told to ``hang``, it prints ``taken RUN`` when it has taken an orphan, and never decides.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from types import TracebackType
from typing import Self

import orjson
from pydantic import BaseModel

from bus import BusSettings, open_bus
from bus.cursor import Cursor
from bus.event import Event
from bus.healer import Healer
from bus.lease import Orphan


class Order(BaseModel):
    redis_url: str
    prefix: str
    lease_seconds: float
    hang: bool = False


class HealerProcess:
    """Heals until it is killed, on leaving at the latest."""

    def __init__(self, order: Order) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.healing.deciding"],
            env=os.environ.copy(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(order.model_dump_json().encode())
        self._process.stdin.close()
        self._process.stdin = None

    async def next_line(self, *, seconds: float = 30.0) -> str:
        async with asyncio.timeout(seconds):
            return await asyncio.to_thread(self._read_line)

    def _read_line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode().strip()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()


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
