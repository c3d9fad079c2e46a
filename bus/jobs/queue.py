"""Queues: a stream of jobs each, with a consumer group of workers, and a sorted set of the jobs that are to come later.

A job names its execution; what is to be done stands in the execution's state, so that a lost job can be queued again.
The consumer that takes a job holds it until the execution has ended; if it is gone before that, another claims it. A
job says that there may be work; who does it is decided by the lease, so a second job does no harm.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tailrace.bus.errors import InvalidExecutionIdError
from tailrace.bus.model.event import check_execution_id
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.reading import RawEntry
from tailrace.bus.redis.commands import Commands
from tailrace.bus.redis.consumer_group import ConsumerGroup
from tailrace.bus.redis.script import Script

GROUP: Final = "workers"


@dataclass(frozen=True, slots=True)
class Job:
    """An entry of a queue, taken: held until it is acknowledged, handed back, or claimed by another."""

    queue: str
    entry_id: str
    execution_id: str


@dataclass(frozen=True, slots=True)
class UnusableJob:
    """An entry of a queue that names no execution; ``defect`` says why."""

    queue: str
    entry_id: str
    defect: str


Taken = Job | UnusableJob


class Queues:
    """Every method raises BusUnavailableError."""

    def __init__(self, commands: Commands, keys: Keys) -> None:
        self._commands = commands
        self._keys = keys
        self._enqueue = Script.load("enqueue")
        self._delayed = Script.load("delayed")
        # Where the search for jobs of the gone goes on, by queue.
        self._searched: dict[str, bytes] = {}

    async def put(self, queue: str, execution_id: str, *, delay_seconds: float = 0.0) -> str | None:
        """Put a job in; its entry's id, or None when it waits for its delay to be over first."""
        entry_id: bytes = await self._enqueue.run(
            self._commands, self._keys_of(queue), execution_id, math.ceil(delay_seconds * 1000)
        )
        return entry_id.decode() or None

    async def move_due(self, queue: str, *, count: int) -> list[Job]:
        """Let jobs whose delay is over be taken, at most ``count``."""
        moved: list[bytes] = await self._delayed.run(self._commands, self._keys_of(queue), count)
        texts = [each.decode(errors="replace") for each in moved]
        return [Job(queue, entry_id, given) for given, entry_id in zip(texts[::2], texts[1::2], strict=True)]

    async def length(self, queue: str) -> int:
        """How many jobs there are: waiting, held and delayed."""
        jobs, delayed = self._keys_of(queue)
        lengths = await asyncio.gather(self._commands.command("XLEN", jobs), self._commands.command("ZCARD", delayed))
        return sum(map(int, lengths))

    async def has(self, queue: str, execution_id: str, entry_id: str | None) -> bool:
        """Whether an execution's job is there: as this entry, held or not, or delayed."""
        jobs, delayed = self._keys_of(queue)
        if entry_id is not None and await self._commands.command("XRANGE", jobs, entry_id, entry_id):
            return True
        return await self._commands.command("ZSCORE", delayed, execution_id) is not None

    async def names(self) -> list[str]:
        """The queues that workers have opened."""
        members = await self._commands.command("SMEMBERS", self._keys.queues())
        return sorted(member.decode(errors="replace") for member in members)

    async def open(self, queue: str) -> None:
        """Make sure that the queue has its group, which sees every job since the queue's beginning, and is listed."""
        await self._commands.command("SADD", self._keys.queues(), queue)
        await self._group(queue).open()

    async def take(
        self, queues: Sequence[str], consumer: str, *, count: int, block_ms: int = 0, line: Commands | None = None
    ) -> list[Taken]:
        """Take jobs that no consumer had yet: at most ``count`` of each queue, in the order of the queues.

        Waits up to ``block_ms`` for the first; a caller who waits brings a ``line`` of its own, because whatever else
        is sent on that connection waits too. In a cluster, where each queue lives elsewhere, it is one queue a call.

        Raises BusUnavailableError; ReplyError with code NOGROUP when a queue was not opened, or was deleted.
        """
        if block_ms and line is None:
            raise ValueError("waiting for jobs takes a connection of its own")
        wait = ("BLOCK", block_ms) if block_ms else ()
        by_key = {self._keys.jobs(queue).encode(): queue for queue in queues}
        reply = await (line or self._commands).command(
            "XREADGROUP", "GROUP", GROUP, consumer, "COUNT", count, *wait, "STREAMS", *by_key, *(">" for _ in by_key)
        )
        streams = reply or {}
        return [_taken(queue, raw) for key, queue in by_key.items() for raw in streams.get(key, ())]

    async def claim(self, queue: str, consumer: str, *, idle_seconds: float, count: int) -> tuple[list[Taken], bool]:
        """Take over jobs whose consumer has not renewed them for ``idle_seconds``.

        Looks at a stretch of the jobs held, and goes on from there the next time; also says whether it has not come to
        the end of them. Raises BusUnavailableError, ReplyError as ``take`` does.
        """
        start = self._searched.pop(queue, b"0-0")
        following, entries = await self._group(queue).claim(
            consumer, idle_seconds=idle_seconds, start=start, count=count
        )
        more = following != b"0-0"
        if more:
            self._searched[queue] = following
        return [_taken(queue, raw) for raw in entries], more

    async def keep(self, jobs: Iterable[Job], consumer: str) -> None:
        """Renew these for a live consumer."""
        by_queue: dict[str, list[str]] = defaultdict(list)
        for job in jobs:
            by_queue[job.queue].append(job.entry_id)
        for queue, entry_ids in by_queue.items():
            await self._group(queue).keep(consumer, entry_ids)

    async def hand_back(self, job: Taken, consumer: str) -> None:
        """Let the next consumer that claims have it at once."""
        await self._group(job.queue).hand_back(consumer, [job.entry_id])

    async def acknowledge(self, job: Taken) -> None:
        """Delete it from the queue."""
        key = self._keys.jobs(job.queue)
        # Deleted first: should we die in between, the next claim finds nothing and Redis forgets that it was held.
        await asyncio.gather(
            self._commands.command("XDEL", key, job.entry_id),
            self._commands.command("XACK", key, GROUP, job.entry_id),
        )

    async def leave(self, queue: str, consumer: str) -> None:
        """Forget a consumer that holds nothing; one that does stays, so that its jobs can be claimed."""
        await self._group(queue).leave(consumer)

    async def sweep(self, queue: str, *, idle_seconds: float) -> None:
        """Forget consumers that hold nothing and have not been seen for so long: workers that were killed."""
        await self._group(queue).sweep(idle_seconds)

    def _group(self, queue: str) -> ConsumerGroup:
        return ConsumerGroup(self._commands, self._keys.jobs(queue), GROUP)

    def _keys_of(self, queue: str) -> tuple[str, str]:
        return self._keys.jobs(queue), self._keys.delayed_jobs(queue)


def _taken(queue: str, raw: RawEntry) -> Taken:
    """Check an entry, which any program may have written."""
    entry_id = raw[0].decode()
    fields = raw[1] or ()
    given = dict(zip(fields[::2], fields[1::2], strict=False)).get(b"id")
    if given is None:
        return UnusableJob(queue, entry_id, "it has no field 'id'")
    try:
        return Job(queue, entry_id, check_execution_id(given.decode(errors="replace"), field="id"))
    except InvalidExecutionIdError as error:
        return UnusableJob(queue, entry_id, str(error))
