"""The work that is watched while things fail: a program with executions of its own, and the pipeline of the workers.

``python -m tests.fault_table.owner DIRECTORY NAME continue|stop ID …``. What it does and what Redis has acknowledged it
writes down in DIRECTORY, a line each, before anything else: a process that is killed has told all that it did.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, cast

from tailrace import BusError, Context, ExecutionClosedError, Pipeline, Registry, Step, open_bus

ACT_SECONDS = 0.05
EVENT_SECONDS = 0.5
# In the directory: when it is there, the work is done.
OVER = "over"

Append = Callable[[str, dict[str, Any]], Awaitable[Any]]


class Notes:
    """Lines that are in the file when the call returns."""

    def __init__(self, directory: Path, name: str) -> None:
        self._file = os.open(directory / f"{name}.{os.getpid()}.notes", os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def write(self, **fields: Any) -> None:
        os.write(self._file, json.dumps(fields | {"at": time.monotonic()}).encode() + b"\n")


async def work(execution_id: str, append: Append, directory: Path, notes: Notes, *, acknowledged: bool = True) -> str:
    """Act and tell until it is over. Who acts twice at a time has two different ``by``."""
    by = uuid.uuid4().hex[:12]

    async def act() -> None:
        while True:
            notes.write(act=execution_id, by=by)
            await asyncio.sleep(ACT_SECONDS)

    acting = asyncio.create_task(act())
    try:
        n = 0
        while not (directory / OVER).exists():
            n += 1
            await append("custom.n", {"n": n, "by": by})
            if acknowledged:
                notes.write(acked=execution_id, by=by, n=n)
            await asyncio.sleep(EVENT_SECONDS)
    finally:
        acting.cancel()
        with suppress(asyncio.CancelledError):
            await acting
    return by


async def run(directory: Path, name: str, on_uncertain: Literal["stop", "continue"], ids: list[str]) -> None:
    notes = Notes(directory, name)
    bus = await open_bus()

    async def keep_running(execution_id: str) -> None:
        """As programs do: whoever has lost the lease tries to get it again, until the execution has ended."""
        while True:
            try:
                async with bus.execution(
                    execution_id, max_attempts=3, on_uncertain=on_uncertain, give_up_after_seconds=300
                ) as execution:
                    await work(execution_id, execution.append, directory, notes)
            except ExecutionClosedError as error:
                notes.write(ended=execution_id, error=str(error))
                return
            except BusError as error:
                notes.write(lost=execution_id, error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(0.5)
            else:
                notes.write(ended=execution_id)
                return

    async with bus:
        await asyncio.gather(*map(keep_running, ids))


async def step(context: Context) -> str:
    directory = Path(os.environ["FAULT_TABLE_DIRECTORY"])
    # Steps are not told when Redis has an event; what was lost shows as a hole in the numbers.
    return await work(context.execution_id, context.emit, directory, Notes(directory, "worker"), acknowledged=False)


registry = Registry([Pipeline("steady", (Step("work", step),))])

if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), sys.argv[2], cast("Literal['stop', 'continue']", sys.argv[3]), sys.argv[4:]))
