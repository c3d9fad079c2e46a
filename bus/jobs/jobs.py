"""Submitted work: stored once, queued, and queued again until it has ended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from tailrace.bus.errors import (
    ConcurrencyConflictError,
    ExecutionExistsError,
    ExecutionUnknownError,
    QueueFullError,
    ReplyError,
)
from tailrace.bus.jobs.concurrency import Concurrency
from tailrace.bus.jobs.queue import Queues
from tailrace.bus.log.index import ExecutionIndex
from tailrace.bus.log.log import Log
from tailrace.bus.model.codec import encode
from tailrace.bus.model.event import QUEUED, Event
from tailrace.bus.model.fence import token_of
from tailrace.bus.model.fields import number, text
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.retention import Retention
from tailrace.bus.model.submission import SUBMISSION_FIELDS, Submission, parse_submission
from tailrace.bus.model.trace import meta_of
from tailrace.bus.redis.commands import Commands, server_ms
from tailrace.bus.redis.script import Script

MAX_QUEUE_JOBS: Final = 1_000_000
# When a healer looks whether what was submitted has its job: the submitter may die in between.
FIRST_LOOK_MS: Final = 5000
# For how long one that was refused at the last moment is still known.
WITHDRAWN_SECONDS: Final = 60
# Unix milliseconds, for some thousand years.
MAX_MS_DIGITS: Final = 15


@dataclass(frozen=True, slots=True)
class History:
    """How often it was begun; and how often of these it failed by itself, so that no worker was lost over it.

    ``not_before_ms`` is when it may be begun again, Unix milliseconds of Redis' clock.
    """

    attempts: int
    failures: int
    not_before_ms: int = 0


class Jobs:
    """``queues`` is where workers take from. Every method raises BusUnavailableError."""

    def __init__(
        self,
        commands: Commands,
        log: Log,
        keys: Keys,
        retention: Retention,
        index: ExecutionIndex,
        *,
        max_queue_jobs: int = MAX_QUEUE_JOBS,
    ) -> None:
        self.queues = Queues(commands, keys)
        self.concurrency = Concurrency(commands, keys, retention)
        self._commands = commands
        self._log = log
        self._keys = keys
        self._retention = retention
        self._index = index
        self._max_queue_jobs = max_queue_jobs
        self._submit = Script.load("submit")
        self._withdraw = Script.load("withdraw")
        self._note = Script.load("note")
        self._count = Script.load("count")

    async def submit(self, submission: Submission, *, ts: str) -> bool:
        """Queue it; each of the steps may be repeated. False when the same was submitted before.

        Raises ExecutionExistsError when something else has that id, ConcurrencyConflictError while another of its
        concurrency key is in flight, QueueFullError, InvalidEventError for an input that is no JSON or too large.
        """
        meta = self._keys.meta(submission.execution_id)
        (noted, status), jobs, now_ms = await asyncio.gather(
            self._commands.command("HMGET", meta, "submitted", "status"),
            self.queues.length(submission.queue),
            server_ms(self._commands),
        )
        if noted is None:
            # Before anything is written: what is refused leaves nothing behind, and what is queued is never refused.
            if jobs >= self._max_queue_jobs:
                raise QueueFullError(submission.queue, jobs)
            await self._check_concurrency(submission, ts)
        keys = (self._keys.log(submission.execution_id), meta)
        fields = submission.fields(now_ms)
        try:
            new = await self._submit.run(
                self._commands, keys, submission.fingerprint, self._retention.live_seconds, *fields
            )
        except ReplyError as error:
            if error.code == "EXISTS":
                raise ExecutionExistsError(submission.execution_id) from None
            raise
        if not new and status is not None:
            # It was queued before; its log and the activity say so, once.
            await self._queue_if_lost(submission)
            return False
        if submission.concurrency_key is not None and (new or await self._status(submission.execution_id) == "unknown"):
            # Only now: a reader that finds it in the slot must see by its state that it is in flight.
            await self._enter_slot(submission, submission.concurrency_key, ts)
        return await self._queue(submission, ts=ts, now_ms=now_ms)

    async def submission_of(self, execution_id: str) -> Submission | None:
        """What the state says is to be done; None for an execution that was not submitted, or is gone.

        Raises InvalidInputError when a stranger wrote the input and it is no JSON object.
        """
        values = await self._commands.command("HMGET", self._keys.meta(execution_id), *SUBMISSION_FIELDS)
        return parse_submission(execution_id, values)

    async def requeue(self, execution_id: str, *, delay_seconds: float = 0.0) -> None:
        """Queue a waiting execution (again). Raises ExecutionUnknownError for one that was not submitted."""
        queue = await self._commands.command("HGET", self._keys.meta(execution_id), "queue")
        if queue is None:
            raise ExecutionUnknownError(execution_id)
        await asyncio.gather(
            self._put(queue.decode(errors="replace"), execution_id, delay_seconds), self._look_in_time(execution_id)
        )

    async def has_job(self, execution_id: str) -> bool:
        """Whether there is a job that will bring a worker to it, now or later; then it does not expire meanwhile."""
        noted = await self._commands.command("HGET", self._keys.meta(execution_id), "job")
        if noted is None:
            return False
        queue, _, entry_id = noted.decode(errors="replace").partition(" ")
        if not await self.queues.has(queue, execution_id, entry_id or None):
            return False
        # What waits is not renewed, and may wait for more than a day.
        await self._keep(execution_id)
        return True

    async def move_due(self, queue: str, *, count: int) -> int:
        """Let jobs whose delay is over be taken, at most ``count``; how many there were."""
        moved = await self.queues.move_due(queue, count=count)
        await asyncio.gather(*(self._note_job(job.execution_id, queue, job.entry_id) for job in moved))
        return len(moved)

    async def history_of(self, execution_id: str) -> History:
        meta = self._keys.meta(execution_id)
        raw = await self._commands.command("HMGET", meta, "attempt", "failures", "not_before")
        attempts, failures, not_before_ms = (number(each, max_digits=MAX_MS_DIGITS) or 0 for each in raw)
        return History(attempts, failures, not_before_ms)

    async def put_off(self, execution_id: str, not_before_ms: int) -> bool:
        """Queue it for then, if that is yet to come; whether it is."""
        left_ms = not_before_ms - await server_ms(self._commands) if not_before_ms else 0
        if left_ms > 0:
            await self.requeue(execution_id, delay_seconds=left_ms / 1000)
        return left_ms > 0

    async def count_failure(self, execution_id: str, *, fence: int) -> None:
        """Tell the attempt under way from one whose worker was lost. Nothing happens when it is another's by now."""
        await self._count.run(self._commands, (self._keys.meta(execution_id),), token_of(fence), "failures", 1)

    async def uncount_attempt(self, execution_id: str, *, fence: int) -> None:
        """Take back the counting of the attempt under way, whose end is not its fault. As ``count_failure``."""
        await self._count.run(self._commands, (self._keys.meta(execution_id),), token_of(fence), "attempt", -1)

    async def _queue(self, submission: Submission, *, ts: str, now_ms: int) -> bool:
        execution_id, delay_seconds = submission.execution_id, submission.delay_seconds
        queued = encode(Event(QUEUED, _shown(submission), meta=meta_of(submission.trace)), ts=ts)
        first_look_ms = min(FIRST_LOOK_MS, self._retention.live_seconds * 250)
        # A healer is told first: it finds what was queued and got no job, because we died in between.
        _, appended = await asyncio.gather(
            self._index.look_at(execution_id, now_ms + first_look_ms + int(delay_seconds * 1000)),
            self._log.append(execution_id, [queued], producer="submit", seq=1),
        )
        if not appended.written:
            await self._queue_if_lost(submission)
            return False
        await asyncio.gather(
            self._put(submission.queue, execution_id, delay_seconds),
            self._look_in_time(execution_id),
            self._index.note(execution_id, submission.tenant, appended.ms, submission.labels),
        )
        return True

    async def _look_in_time(self, execution_id: str) -> None:
        """Have a healer look when it has waited for too long."""
        state = await self._log.state(execution_id)
        if state is not None and state.waits_until_ms is not None:
            await self._index.look_at(execution_id, state.waits_until_ms)

    async def _queue_if_lost(self, submission: Submission) -> None:
        """The same was submitted before, perhaps by a process that died before it was queued."""
        execution_id = submission.execution_id
        if await self._status(execution_id) == "queued" and not await self.has_job(execution_id):
            await self._put(submission.queue, execution_id, submission.delay_seconds)

    async def _put(self, queue: str, execution_id: str, delay_seconds: float) -> None:
        if delay_seconds:
            await self._keep(execution_id, delay_seconds=int(delay_seconds))
            # A second job must not begin it before its time.
            not_before_ms = await server_ms(self._commands) + int(delay_seconds * 1000)
            await self._note.run(self._commands, (self._keys.meta(execution_id),), "not_before", not_before_ms)
        entry_id = await self.queues.put(queue, execution_id, delay_seconds=delay_seconds)
        await self._note_job(execution_id, queue, entry_id or "")

    async def _keep(self, execution_id: str, *, delay_seconds: int = 0) -> None:
        """Keep one that waits, and the slot of its concurrency key."""
        keys, seconds = self._keys.of_execution(execution_id), self._retention.live_seconds + delay_seconds
        names, *_ = await asyncio.gather(
            self._commands.command("HMGET", self._keys.meta(execution_id), "tenant", "concurrency_key"),
            *(self._commands.command("EXPIRE", key, seconds, "GT") for key in keys),
        )
        tenant, key = (text(name) or None for name in names)
        if key is not None:
            await self.concurrency.keep(tenant, key, delay_seconds=delay_seconds)

    async def _note_job(self, execution_id: str, queue: str, entry_id: str) -> None:
        await self._note.run(self._commands, (self._keys.meta(execution_id),), "job", f"{queue} {entry_id}")

    async def _check_concurrency(self, submission: Submission, ts: str) -> None:
        if submission.concurrency_key is not None:
            slot = await self.concurrency.slot(submission.tenant, submission.concurrency_key)
            await self._check_holder(slot.holder, submission, submission.concurrency_key, ts)

    async def _enter_slot(self, submission: Submission, key: str, ts: str) -> None:
        seen = await self.concurrency.slot(submission.tenant, key)
        while True:
            try:
                await self._check_holder(seen.holder, submission, key, ts)
            except ConcurrencyConflictError:
                await self._withdraw.run(self._commands, (self._keys.meta(submission.execution_id),), WITHDRAWN_SECONDS)
                raise
            seen = await self.concurrency.take(submission.tenant, key, submission.execution_id, seen)
            if seen.holder == submission.execution_id:
                return

    async def _check_holder(self, holder: str | None, submission: Submission, key: str, ts: str) -> None:
        """Raises ConcurrencyConflictError while another is in flight."""
        if holder is None or holder == submission.execution_id:
            return
        state = await self._log.state(holder)
        if state is None or state.ended:
            return
        if state.status == "unknown" and state.submitted is not None:
            # Its submitter is half way, or died there and would block the key: we go the rest of the way.
            other = await self.submission_of(holder)
            if other is not None:
                await self._queue(other, ts=ts, now_ms=await server_ms(self._commands))
        raise ConcurrencyConflictError(key, holder)

    async def _status(self, execution_id: str) -> str:
        state = await self._log.state(execution_id)
        return "unknown" if state is None else state.status


def _shown(submission: Submission) -> dict[str, Any]:
    shown: dict[str, Any] = {"pipeline": submission.pipeline, "queue": submission.queue}
    if submission.delay_seconds:
        shown["delay_seconds"] = submission.delay_seconds
    if submission.timeout_seconds is not None:
        shown["timeout_seconds"] = submission.timeout_seconds
    if submission.start_within_seconds is not None:
        shown["start_within_seconds"] = submission.start_within_seconds
    if submission.labels:
        shown["labels"] = dict(submission.labels)
    if submission.requeued_from is not None:
        shown["requeued_from"] = submission.requeued_from
    return shown
