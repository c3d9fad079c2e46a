"""A worker as a process, to be killed: ``python -m tests.faults.workers.working`` with an Order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import Literal
from uuid import uuid4

import orjson
from pydantic import BaseModel

from tailrace.bus import BusSettings, State, open_bus
from tailrace.cli.commands.worker import _exit_unstoppable
from tailrace.workers import Context, Pipeline, Registry, Step, Worker, WorkerSettings
from tailrace.workers.worker.attempt import Attempt
from tests.patience import patient
from tests.program import Program

MANY_ATTEMPTS = 50


class Order(BaseModel):
    """``dies`` is where it kills itself: when it has claimed a job and done nothing yet."""

    redis_url: str
    prefix: str
    lease_seconds: float
    concurrency: int = 8
    drain_seconds: float = 0.0
    dies: Literal["claimed"] | None = None


class Given(BaseModel):
    """How many events each step emits, and how long it waits between them."""

    events: int = 10
    pause_seconds: float = 0.01
    block_seconds: float = 0.0
    acts: str = ""


async def say(ctx: Context) -> None:
    """Emit an event that tells by which run through the steps it was said, and as which of its events."""
    memory = ctx.memory
    memory["n"] = memory.get("n", 0) + 1
    memory.setdefault("producer", uuid4().hex[:8])
    await ctx.emit("custom.counted", {"producer": memory["producer"], "n": memory["n"], "pid": os.getpid()})


async def count(ctx: Context) -> int:
    for _ in range(ctx.input.events):
        await say(ctx)
        await asyncio.sleep(ctx.input.pause_seconds)
    return ctx.input.events  # type: ignore[no-any-return]


async def block(ctx: Context) -> None:
    """Stop the whole worker, as a step must not; and go on as if nothing had been."""
    await say(ctx)
    await ctx.checkpoint({})
    if ctx.attempt == 1:
        time.sleep(ctx.input.block_seconds)  # noqa: ASYNC251 - on purpose
    await count(ctx)


async def ignore(ctx: Context) -> None:
    """Never stop, whoever asks."""
    while True:
        try:
            await say(ctx)
            await asyncio.sleep(ctx.input.pause_seconds)
        except asyncio.CancelledError:
            continue
        except Exception:  # noqa: BLE001 - it takes no notice of anything
            await asyncio.sleep(ctx.input.pause_seconds)


async def poison(ctx: Context) -> None:
    await say(ctx)
    await ctx.checkpoint({})
    os.kill(os.getpid(), signal.SIGKILL)


def act(ctx: Context) -> None:
    """Note the time in a file for as long as the process lives, and hear of nothing."""
    acts = os.open(ctx.input.acts, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        os.write(acts, f"{time.time_ns() // 1_000_000}\n".encode())
        time.sleep(0.005)


REGISTRY = Registry(
    [
        Pipeline("count", tuple(Step(name, count) for name in ("one", "two", "three")), Given),
        Pipeline("stubborn", (Step("one", count), Step("two", count)), Given, max_attempts=MANY_ATTEMPTS),
        Pipeline("once", (Step("one", count),), Given, max_attempts=1),
        Pipeline("block", (Step("block", block),), Given),
        Pipeline("ignore", (Step("ignore", ignore),), Given),
        Pipeline("act", (Step("act", act),), Given, max_attempts=1),
        Pipeline("poison", (Step("poison", poison),), Given),
    ]
)


class WorkerProcess(Program):
    """Works until it is killed."""

    def __init__(self, order: Order) -> None:
        super().__init__("tests.faults.workers.working", order, keeps="stdout")

    def runs(self, state: State | None) -> bool:
        """Whether it is the owner. Bus.name has the process's id in its middle."""
        return state is not None and state.owner is not None and f"-{self.pid}-" in state.owner

    async def until_ready(self, *, seconds: float = 60.0) -> None:
        async with asyncio.timeout(patient(seconds)):
            line = await asyncio.to_thread(self.read_line)
        assert line == "ready", f"it ended with {self._process.poll()}"

    async def until_dead(self, *, seconds: float = 60.0) -> None:
        async with asyncio.timeout(patient(seconds)):
            await asyncio.to_thread(self._process.wait)

    def terminate(self) -> float:
        """SIGTERM, and wait for it to go; when that was, in Unix seconds."""
        asked = time.time()
        self._process.terminate()
        assert self._process.wait(patient(60)) == 0
        return asked


async def _die(_: Attempt, execution_id: str) -> None:
    del execution_id
    os.kill(os.getpid(), signal.SIGKILL)


async def main(order: Order) -> None:
    if order.dies == "claimed":
        Attempt._attempt = _die  # type: ignore[method-assign, assignment]
    settings = BusSettings(prefix=order.prefix, lease_seconds=order.lease_seconds)
    working = WorkerSettings(concurrency=order.concurrency, drain_seconds=order.drain_seconds)
    async with await open_bus(order.redis_url, settings=settings) as bus:
        worker = Worker(bus, REGISTRY, working)
        worker.on_unstoppable = _exit_unstoppable
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        print("ready", flush=True)
        await worker.run()


if __name__ == "__main__":
    asyncio.run(main(Order.model_validate(orjson.loads(sys.stdin.buffer.read()))))
