"""What streaming costs a pipeline: the same work with every event published, and with every event thrown away.

The work is a typical LLM pipeline. Each of its steps first prepares a prompt (CPU: JSON, a regular expression and a
hash over a document), then reads a model's answer from another process, a token 10 ms after it was asked for, and hands
each on as it comes. The next is asked for when the one before was handed on, so that whatever handing on costs adds to
the duration and hides behind nothing. Tokens come over a socket, as a model's do: a timer of the event loop is rounded
up to the next millisecond whenever something else has woken the loop meanwhile, and that is what would be measured.
The model has a core of its own, as one on another host has: else the kernel wakes it on the core of whoever asked it,
where it waits until that one has come to rest, and the wait would be measured. Redis shares the worker's cores.
Both have the same lease, heartbeat and checkpoints; they differ in where events go. They run in the order without,
with, with, without, several times, so that a machine that gets slower or faster meanwhile favours neither. Each step is
timed from its beginning to that of the next, and counts with its median over the repetitions: a moment in which the
machine did something else costs one of them, and is no cost of streaming.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import socket
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Any, Final, NamedTuple

import orjson
import redis.asyncio

from tailrace.bus import open_bus
from tailrace.bus.bus import Bus
from tailrace.bus.ownership.execution import Execution
from tailrace.workers.definition.context import Context
from tailrace.workers.definition.pipeline import Pipeline, Step
from tailrace.workers.running.run import BusPipelineExecution
from tailrace.workers.running.runner import run_steps

CONTENDERS: Final = ("tailrace", "xadd-awaited")
TOKENS: Final = 20
TOKEN_SECONDS: Final = 0.01
EVENTS_A_STEP: Final = TOKENS + 3  # it starts, it progresses, it completes
REPETITIONS: Final = 3
_DOCUMENT: Final = {
    "pages": [{"number": n, "text": "the water that has done its work runs off " * 20} for n in range(40)]
}
_WORDS: Final = re.compile(r"\w+")


def prepare() -> str:
    """Some 10 ms of CPU."""
    digest = hashlib.sha256()
    for _ in range(6):
        text = json.dumps(_DOCUMENT)
        for page in json.loads(text)["pages"]:
            digest.update(" ".join(word.lower() for word in _WORDS.findall(page["text"])).encode())
    return digest.hexdigest()


begun_at: list[float] = []

# Answers each byte with a byte, a while later, by a clock that nobody else wakes.
_MODEL: Final = """
import socket, sys, time
with socket.socket(fileno=int(sys.argv[1])) as asked:
    while asked.recv(1):
        time.sleep(float(sys.argv[2]))
        asked.sendall(b"t")
"""


class Model:
    """A model in a process of its own, on a core of its own where there are two or more."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def open(self, redis_pid: int) -> None:
        *others, last = sorted(os.sched_getaffinity(0))
        ours, theirs = socket.socketpair()
        with theirs:
            arguments = [sys.executable, "-c", _MODEL, str(theirs.fileno()), str(TOKEN_SECONDS)]
            self._process = await asyncio.create_subprocess_exec(*arguments, pass_fds=[theirs.fileno()])
        if others:
            os.sched_setaffinity(self._process.pid, {last})
            for pid in (os.getpid(), redis_pid):
                os.sched_setaffinity(pid, others)
        self.reader, self.writer = await asyncio.open_connection(sock=ours)
        await self.next_token()

    async def next_token(self) -> None:
        self.writer.write(b"?")
        await self.reader.readexactly(1)

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()
        await self._process.wait()


model = Model()


async def answer(context: Context) -> str:
    begun_at.append(time.perf_counter())
    prepare()
    await context.progress(0.2, "asking the model")
    for number in range(TOKENS):
        await model.next_token()
        await context.token(f"word{number} ")
    return "done"


class Discarding(BusPipelineExecution):
    async def emit(
        self, event_type: str, data: Any = None, *, step: str | None = None, meta: dict[str, Any] | None = None
    ) -> None:
        pass


class AwaitingEach(BusPipelineExecution):
    """As it is written by hand: an awaited XADD for every event."""

    def __init__(self, bus: Bus, execution: Execution, client: redis.asyncio.Redis) -> None:
        super().__init__(bus, execution)
        self._client = client
        self._key = f"{execution.id}:by-hand"

    async def emit(
        self, event_type: str, data: Any = None, *, step: str | None = None, meta: dict[str, Any] | None = None
    ) -> None:
        shown = orjson.dumps({"type": event_type, "step": step, "data": data, "meta": meta})
        await self._client.xadd(self._key, {"d": shown}, maxlen=100_000)


class Leg(NamedTuple):
    """Seconds of each stretch: up to the first step, then each step, the last of them until the log is closed."""

    stretches: list[float]
    cpu_seconds: float


async def run_leg(bus: Bus, pipeline: Pipeline, client: redis.asyncio.Redis, contender: str) -> Leg:
    """One execution, from taking its lease until its ending is in the log."""
    begun_at.clear()
    clock, cpu = time.perf_counter(), time.process_time()
    async with bus.execution() as execution:
        run: BusPipelineExecution = Discarding(bus, execution)
        if contender == "tailrace":
            run = BusPipelineExecution(bus, execution)
        elif contender == "xadd-awaited":
            run = AwaitingEach(bus, execution, client)
        await run_steps(pipeline, run, {})
    moments = [clock, *begun_at, time.perf_counter()]
    return Leg([later - earlier for earlier, later in pairwise(moments)], time.process_time() - cpu)


def typical_seconds(legs: Sequence[Leg]) -> float:
    return sum(float(median(stretch)) for stretch in zip(*(leg.stretches for leg in legs), strict=True))


async def main(order: dict[str, Any]) -> dict[str, float]:
    contender = order["contender"]
    pipeline = Pipeline("typical", tuple(Step(f"step{number}", answer) for number in range(order["steps"])))
    warming = Pipeline("warming", (Step("step0", answer),))
    client = redis.asyncio.Redis(port=order["redis_port"])
    await model.open(order["redis_pid"])
    async with await open_bus(f"redis://127.0.0.1:{order['redis_port']}/0") as bus:
        for leg in ("discarding", contender):
            await run_leg(bus, warming, client, leg)
        without: list[Leg] = []
        streaming: list[Leg] = []
        for _ in range(REPETITIONS):
            without.append(await run_leg(bus, pipeline, client, "discarding"))
            streaming += [await run_leg(bus, pipeline, client, contender) for _ in range(2)]
            without.append(await run_leg(bus, pipeline, client, "discarding"))
    await client.aclose()
    await model.close()
    with_seconds, without_seconds = typical_seconds(streaming), typical_seconds(without)
    more_cpu_seconds = median([leg.cpu_seconds for leg in streaming]) - median([leg.cpu_seconds for leg in without])
    return {
        "slowdown_percent": (with_seconds / without_seconds - 1) * 100,
        "with_seconds": with_seconds,
        "without_seconds": without_seconds,
        "cpu_us_per_event": more_cpu_seconds / (order["steps"] * EVENTS_A_STEP) * 1e6,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))
