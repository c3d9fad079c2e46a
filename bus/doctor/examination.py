"""The examination: each check by itself, so that one that cannot be made hides none of the others."""

from __future__ import annotations

import asyncio
import resource
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from tailrace.bus.bus import Bus
from tailrace.bus.doctor import judgement
from tailrace.bus.doctor.judgement import Finding
from tailrace.bus.errors import BusError
from tailrace.bus.model.cursor import START
from tailrace.bus.model.reading import RawEntry

PINGS: Final = 20
NOTICE_SECONDS: Final = 5.0
# A person waits for the answer: a refusal that lasts is told after so long.
GIVE_UP_SECONDS: Final = 3.0


async def examine(bus: Bus) -> AsyncIterator[Finding]:
    """Give findings as they are made. Writes to an execution of its own, and takes it away again."""
    checks: tuple[tuple[str, Callable[[Bus], Awaitable[Sequence[Finding]]]], ...] = (
        ("server", _server),
        ("latency", _latency),
        ("clock", _clock),
        ("append", _append),
        ("tail", _tail),
        ("healing", _healing),
        ("files", _files),
    )
    for name, check in checks:
        try:
            for finding in await check(bus):
                yield finding
        except BusError as error:
            yield Finding(name, "failure", str(error), "allow it to this user (ACL), or look at Redis's log")


async def _server(bus: Bus) -> Sequence[Finding]:
    info = judgement.read_info((await bus.commands.command("INFO")).decode(errors="replace"))
    return [
        judgement.of_version(info),
        judgement.of_replication(info),
        judgement.of_eviction(info),
        judgement.of_memory(info),
        judgement.of_persistence(info),
        judgement.of_clients(info),
    ]


async def _latency(bus: Bus) -> Sequence[Finding]:
    took: list[float] = []
    for _ in range(PINGS):
        begun = time.perf_counter()
        await bus.commands.command("PING")
        took.append((time.perf_counter() - begun) * 1000)
    return [judgement.of_latency(took)]


async def _clock(bus: Bus) -> Sequence[Finding]:
    before = time.time()
    seconds, micros = await bus.commands.command("TIME")
    # Redis looked at its clock half way, as far as one can tell.
    here = (before + time.time()) / 2
    return [judgement.of_clock(here - int(seconds) - int(micros) / 1e6)]


async def _append(bus: Bus) -> Sequence[Finding]:
    """Everything a run needs: lease, append, read, ending."""
    execution_id = f"doctor-{uuid.uuid4().hex[:12]}"
    begun = time.perf_counter()
    try:
        async with bus.execution(execution_id, give_up_after_seconds=GIVE_UP_SECONDS) as execution:
            await execution.append("custom.doctor", {"checked": True})
        state = await bus.state(execution_id)
        took_ms = (time.perf_counter() - begun) * 1000
        if state is None or state.status != "completed":
            return [Finding("append", "failure", "an execution was run, and Redis does not know how it ended")]
        return [Finding("append", "ok", f"an execution was run, read and ended in {took_ms:.1f} ms")]
    finally:
        await _forget(bus, execution_id)


async def _tail(bus: Bus) -> Sequence[Finding]:
    execution_id = f"doctor-{uuid.uuid4().hex[:12]}"
    tail = await bus.tail()
    noticed = _Noticed()
    watch = tail.watch(bus.keys.log(execution_id), START, noticed)
    try:
        # Only what is written after the watch has been armed proves that changes are noticed: the first finds it armed.
        publisher = bus.publisher(execution_id, give_up_after_seconds=GIVE_UP_SECONDS)
        await publisher.append("custom.doctor", {"number": 1})
        await noticed.wait()
        begun = time.perf_counter()
        await publisher.append("custom.doctor", {"number": 2})
        await noticed.wait()
        took_ms: float | None = (time.perf_counter() - begun) * 1000
    except TimeoutError:
        took_ms = None
    finally:
        watch.close()
        await _forget(bus, execution_id)
    return [judgement.of_tracking(tail.mode, took_ms)]


async def _healing(bus: Bus) -> Sequence[Finding]:
    first = await bus.commands.command("ZRANGE", bus.keys.due(), 0, 0, "WITHSCORES")
    if not first:
        return [judgement.of_overdue(None)]
    [[_, score]] = first
    seconds, _ = await bus.commands.command("TIME")
    return [judgement.of_overdue(int(seconds) - float(score) / 1000)]


async def _files(bus: Bus) -> Sequence[Finding]:
    del bus
    return [judgement.of_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])]


async def _forget(bus: Bus, execution_id: str) -> None:
    await bus.commands.command("DEL", *bus.keys.of_execution(execution_id))
    for index in (bus.keys.due(), bus.keys.executions(None)):
        await bus.commands.command("ZREM", index, execution_id)


class _Noticed:
    """A listener that says when something came."""

    def __init__(self) -> None:
        self._news = asyncio.Event()

    def deliver(self, entries: Sequence[RawEntry]) -> None:
        if entries:
            self._news.set()

    def disturbed(self, reason: str) -> None:
        del reason

    async def wait(self) -> None:
        async with asyncio.timeout(NOTICE_SECONDS):
            await self._news.wait()
        self._news.clear()
