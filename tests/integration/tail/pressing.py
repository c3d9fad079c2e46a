"""A publisher as a process of its own, so that it goes on while the reader is busy.

``python -m tests.integration.tail.pressing`` with an order as JSON on its input. Each event says when it was appended,
on the clock that all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

import orjson
from pydantic import BaseModel

from tailrace.bus import Bus, BusSettings, open_bus
from tests.patience import patient

TYPE = b"custom.stamped"


class Order(BaseModel):
    """Append ``events`` events every ``every_seconds``, to each of the runs in turn, until ended."""

    redis_url: str
    prefix: str
    runs: list[str]
    events: int
    every_seconds: float


class Pressing:
    """Runs an order from entering to leaving; ``appended`` then says how many events that made."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._process: subprocess.Popen[bytes] | None = None
        self.appended = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.tail.pressing"],
            env=os.environ.copy(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(self._order.model_dump_json().encode() + b"\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == b"begun\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        # Its input ends: so does it.
        said, _ = self._process.communicate(timeout=patient(20))
        if kind is None:
            self.appended = int(said)


def fields(number: int) -> list[bytes]:
    return [b"t", TYPE, b"d", orjson.dumps({"at": time.monotonic(), "k": number})]


async def press(bus: Bus, order: Order, ended: asyncio.Event) -> int:
    begun, turns = time.monotonic(), 0
    while not ended.is_set():
        run = order.runs[turns % len(order.runs)]
        await bus.log.append(run, [fields(number) for number in range(order.events)])
        if turns == 0:
            sys.stdout.write("begun\n")
            sys.stdout.flush()
        turns += 1
        await asyncio.sleep(max(0.0, begun + turns * order.every_seconds - time.monotonic()))
    return turns * order.events


async def _main() -> None:
    order = Order.model_validate(orjson.loads(sys.stdin.buffer.readline()))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    async with await open_bus(order.redis_url, settings=BusSettings(prefix=order.prefix)) as bus:
        sys.stdout.write(f"{await press(bus, order, ended)}\n")


if __name__ == "__main__":
    asyncio.run(_main())
