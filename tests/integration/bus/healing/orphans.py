"""Executions that lose their owners, and what a healer needs beside Redis."""

from __future__ import annotations

import asyncio
from typing import Any

from tailrace.bus import Bus, Entry, State
from tailrace.bus.healing.healer import Healer
from tailrace.bus.model.codec import encode
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import START
from tailrace.bus.model.event import Event
from tailrace.bus.ownership.gate import TakeOverGate
from tailrace.bus.ownership.lease import Lease

TS = "2026-01-01T00:00:00.000000Z"


class Jobs:
    """A queue in memory."""

    def __init__(self) -> None:
        self.queued: list[str] = []
        self.present: set[str] = set()
        self._news = asyncio.Event()

    async def until(self, count: int) -> None:
        while len(self.queued) < count:
            self._news.clear()
            await self._news.wait()

    async def has_job(self, execution_id: str) -> bool:
        return execution_id in self.present

    async def requeue(self, execution_id: str) -> None:
        self.queued.append(execution_id)
        self.present.add(execution_id)
        self._news.set()


class DeadLetters:
    def __init__(self) -> None:
        self.letters: list[tuple[str, str, str]] = []

    async def add(self, execution_id: str, reason: str, message: str) -> None:
        self.letters.append((execution_id, reason, message))


def healer_of(
    bus: Bus, jobs: Jobs | None = None, dead_letters: DeadLetters | None = None, *, name: str = "me"
) -> Healer:
    gate = TakeOverGate(bus.commands, bus.index, bus.counters, lease_seconds=1.0, hold_seconds=0.1)
    # As in a process, where both ask one: another would find that a server of the tests has just started.
    bus.leases.gate = gate
    return Healer(
        name=name,
        commands=bus.commands,
        keys=bus.keys,
        log=bus.log,
        leases=bus.leases,
        index=bus.index,
        counters=bus.counters,
        activity=bus.activity,
        jobs=jobs or Jobs(),
        dead_letters=dead_letters or DeadLetters(),
        gate=gate,
    )


async def append(bus: Bus, run: str, event_type: str, data: Any = None, *, lease: Lease | None = None) -> None:
    fence = lease.fence if lease is not None else None
    await bus.log.append(run, [encode(Event(event_type, data), ts=TS)], fence=fence)


async def submitted(bus: Bus, run: str = "run") -> None:
    await bus.commands.command("HSET", bus.keys.meta(run), "submitted", "abc", "queue", "default")
    await append(bus, run, "execution.queued")


async def begun(bus: Bus, run: str = "run", *, max_attempts: int | None = 3) -> Lease:
    lease = await bus.leases.take(run, "worker-1", max_attempts=max_attempts)
    await append(bus, run, "execution.started", lease=lease)
    return lease


async def die(bus: Bus, run: str = "run") -> None:
    """As if the lease's time had passed, and somebody should have looked already."""
    await bus.commands.command("HSET", bus.keys.meta(run), "lease_until", 1)
    await bus.index.look_at_all({run: 1})


async def cancel(bus: Bus, run: str = "run", **data: Any) -> str:
    done = await bus.log.append(run, [encode(Event("execution.cancel_requested", data), ts=TS)])
    return str(done.last)


async def entries(bus: Bus, run: str = "run") -> list[Entry]:
    page = await bus.log.read(run, Numbering.after(START))
    return [item for item in page.items if isinstance(item, Entry)]


async def state(bus: Bus, run: str = "run") -> State:
    found = await bus.state(run)
    assert found is not None
    return found


async def types(bus: Bus, run: str = "run") -> list[str]:
    return [entry.type.removeprefix("execution.") for entry in await entries(bus, run)]


async def due_at(bus: Bus, run: str = "run") -> int | None:
    score = await bus.commands.command("ZSCORE", bus.keys.due(), run)
    return None if score is None else int(score)


async def now_ms(bus: Bus) -> int:
    return int((await bus.commands.command("TIME"))[0]) * 1000
