"""Work waiting to be done: a stream per queue, a consumer group of workers.

A job names its execution; what is to be done stands in the execution's state, so that a lost job can be queued again.
Whoever takes a job holds it until the execution has ended; if the holder is gone before that, another claims it. A job
says that there may be work; who does it is decided by the execution's lease.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from bus.codec import encode
from bus.errors import ExecutionExistsError, InvalidExecutionIdError, InvalidInputError, ReplyError
from bus.event import QUEUED, Event, check_execution_id, encode_json
from bus.keys import Keys
from bus.line import Commands
from bus.log import Log
from bus.reading import RawEntry
from bus.retention import Retention
from bus.script import Script
from bus.tail.replies import streams_of

GROUP: Final = "workers"
MAX_INPUT_BYTES: Final = 256 * 1024
MAX_WAITING_JOBS: Final = 1_000_000
# Longer than anybody waits before claiming.
LONG_IDLE_MS: Final = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Submission:
    """What a worker is asked to do."""

    execution_id: str
    pipeline: str
    input: dict[str, Any]
    queue: str = "default"
    tenant: str | None = None

    @property
    def fingerprint(self) -> str:
        canonical = json.dumps([self.pipeline, self.input, self.queue, self.tenant], sort_keys=True, default=str)
        return hashlib.sha256(canonical.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Job:
    """An entry of a queue, taken: held until it is acknowledged, handed back, or claimed by another."""

    queue: str
    entry_id: str
    execution_id: str


@dataclass(frozen=True, slots=True)
class UnusableJob:
    """An entry of a queue from which nobody can tell what to do; ``defect`` says why."""

    queue: str
    entry_id: str
    defect: str


Taken = Job | UnusableJob


class Jobs:
    def __init__(self, commands: Commands, log: Log, keys: Keys, retention: Retention) -> None:
        self._commands = commands
        self._log = log
        self._keys = keys
        self._retention = retention
        self._submit = Script.load("submit")
        # Where the search for jobs of the gone goes on, by queue.
        self._searched: dict[str, bytes] = {}

    async def submit(self, submission: Submission, *, ts: str) -> bool:
        """Queue it; each of the steps may be repeated. False when the same was submitted before.

        Raises ExecutionExistsError when something else has that id, InvalidEventError for an input that is no JSON or
        too large.
        """
        encoded = encode_json(submission.input, field="input", limit_bytes=MAX_INPUT_BYTES)
        fields: list[str | bytes] = [
            "pipeline",
            submission.pipeline,
            "input",
            encoded,
            "queue",
            submission.queue,
        ]
        if submission.tenant is not None:
            fields += ["tenant", submission.tenant]
        keys = (self._keys.log(submission.execution_id), self._keys.meta(submission.execution_id))
        try:
            await self._submit.run(self._commands, keys, submission.fingerprint, self._retention.live_seconds, *fields)
        except ReplyError as error:
            if error.code == "EXISTS":
                raise ExecutionExistsError(submission.execution_id) from None
            raise
        queued = encode(Event(QUEUED, {"pipeline": submission.pipeline, "queue": submission.queue}), ts=ts)
        appended = await self._log.append(submission.execution_id, [queued], producer="submit", seq=1)
        if not appended.written and not await self._is_queued(submission.execution_id):
            return False
        # Again, when the same was submitted before and nobody has begun: whoever did it may have died before this line.
        # A second job of an execution does no harm.
        await self._commands.command(
            "XADD", self._keys.jobs(submission.queue), "MAXLEN", "~", MAX_WAITING_JOBS, "*",
            "id", submission.execution_id,
        )  # fmt: skip
        return bool(appended.written)

    async def submission_of(self, execution_id: str) -> Submission | None:
        """What the state says is to be done; None for an execution that nobody submitted, or that is gone.

        Raises InvalidInputError when a stranger wrote the input and it is no JSON object.
        """
        pipeline, given, queue, tenant = await self._commands.command(
            "HMGET", self._keys.meta(execution_id), "pipeline", "input", "queue", "tenant"
        )
        if pipeline is None or given is None:
            return None
        try:
            parsed = orjson.loads(given)
        except orjson.JSONDecodeError as error:
            raise InvalidInputError("input", f"of execution {execution_id} is not JSON: {error}") from None
        if not isinstance(parsed, dict):
            raise InvalidInputError("input", f"of execution {execution_id} is not a JSON object")
        return Submission(
            execution_id,
            pipeline.decode(errors="replace"),
            parsed,
            queue.decode(errors="replace") if queue else "default",
            tenant.decode(errors="replace") if tenant else None,
        )

    async def open_queue(self, queue: str) -> None:
        """Make sure that the queue has its group, which sees every job since the queue's beginning."""
        try:
            await self._commands.command("XGROUP", "CREATE", self._keys.jobs(queue), GROUP, "0", "MKSTREAM")
        except ReplyError as error:
            if error.code != "BUSYGROUP":
                raise

    async def take(
        self, queues: Sequence[str], consumer: str, *, count: int, block_ms: int = 0, line: Commands | None = None
    ) -> list[Taken]:
        """Take jobs that nobody had yet: at most ``count`` of each queue, in the order of the queues.

        Waits up to ``block_ms`` for the first; a caller who waits brings a ``line`` of its own, because whatever else
        is sent on that connection waits too. In a cluster, where each queue lives elsewhere, it is one queue a call.

        Raises BusUnavailableError; ReplyError with code NOGROUP when a queue was not opened, or was deleted.
        """
        if block_ms and line is None:
            raise ValueError("to wait for jobs takes a line of one's own")
        wait = ("BLOCK", block_ms) if block_ms else ()
        by_key = {self._keys.jobs(queue).encode(): queue for queue in queues}
        reply = await (line or self._commands).command(
            "XREADGROUP", "GROUP", GROUP, consumer, "COUNT", count, *wait, "STREAMS", *by_key, *(">" for _ in by_key)
        )
        streams = streams_of(reply)
        return [_taken(queue, raw) for key, queue in by_key.items() for raw in streams.get(key, ())]

    async def claim(self, queue: str, consumer: str, *, idle_seconds: float, count: int) -> tuple[list[Taken], bool]:
        """Take over jobs whose consumer has not said for so long that it holds them.

        Looks at a stretch of the jobs held, and goes on from there the next time; also says whether it has not come to
        the end of them. Raises BusUnavailableError, ReplyError as ``take`` does.
        """
        start = self._searched.pop(queue, b"0-0")
        following, entries, *_ = await self._commands.command(
            "XAUTOCLAIM", self._keys.jobs(queue), GROUP, consumer, int(idle_seconds * 1000), start, "COUNT", count
        )
        more = following != b"0-0"
        if more:
            self._searched[queue] = following
        return [_taken(queue, raw) for raw in entries], more

    async def keep(self, jobs: Iterable[Job], consumer: str) -> None:
        """Say that these are still held by a consumer that lives."""
        by_queue: dict[str, list[str]] = defaultdict(list)
        for job in jobs:
            by_queue[job.queue].append(job.entry_id)
        for queue, entry_ids in by_queue.items():
            await self._commands.command(
                "XCLAIM", self._keys.jobs(queue), GROUP, consumer, 0, *entry_ids, "JUSTID"
            )  # fmt: skip

    async def hand_back(self, job: Taken, consumer: str) -> None:
        """Let the next who claims have it at once."""
        await self._commands.command(
            "XCLAIM", self._keys.jobs(job.queue), GROUP, consumer, 0, job.entry_id, "IDLE", LONG_IDLE_MS, "JUSTID"
        )

    async def acknowledge(self, job: Taken) -> None:
        """Be done with it, for all."""
        key = self._keys.jobs(job.queue)
        # Deleted first: should we die in between, whoever claims next finds nothing and Redis forgets that it was held.
        await self._commands.command("XDEL", key, job.entry_id)
        await self._commands.command("XACK", key, GROUP, job.entry_id)

    async def leave_queue(self, queue: str, consumer: str) -> None:
        """Forget a consumer that holds nothing; one that does stays, so that its jobs can be claimed."""
        key = self._keys.jobs(queue)
        if not await self._commands.command("XPENDING", key, GROUP, "-", "+", 1, consumer):
            await self._commands.command("XGROUP", "DELCONSUMER", key, GROUP, consumer)

    async def _is_queued(self, execution_id: str) -> bool:
        state = await self._log.state(execution_id)
        return state is not None and state.status == "queued"


def _taken(queue: str, raw: RawEntry) -> Taken:
    """Check an entry, whoever wrote it."""
    entry_id = raw[0].decode()
    fields = raw[1] or ()
    given = dict(zip(fields[::2], fields[1::2], strict=False)).get(b"id")
    if given is None:
        return UnusableJob(queue, entry_id, "it has no field 'id'")
    try:
        return Job(queue, entry_id, check_execution_id(given.decode(errors="replace"), field="id"))
    except InvalidExecutionIdError as error:
        return UnusableJob(queue, entry_id, str(error))
