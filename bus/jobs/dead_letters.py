"""Jobs that failed for good, kept with the reason: a stream per queue.

A letter may be there twice when its writer died in between; requeueing either has the same effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from tailrace.bus.errors import DeadLetterUnknownError, ExecutionUnknownError, InvalidInputError
from tailrace.bus.jobs.jobs import Jobs
from tailrace.bus.jobs.queue import UnusableJob
from tailrace.bus.model.codec import decode, ts_of
from tailrace.bus.model.cursor import from_id, parse
from tailrace.bus.model.fields import number, text
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.reading import RawEntry
from tailrace.bus.model.state import State
from tailrace.bus.model.submission import id_of_repetition
from tailrace.bus.redis.commands import Commands
from tailrace.bus.redis.script import Script

MAX_LETTERS: Final = 100_000
MAX_MESSAGE_CHARS: Final = 4000
PAGE_LETTERS: Final = 100
_ATTEMPTS_DIGITS: Final = 9
# What is to be done stands in the execution's state: it is kept as long as the letter.
KEPT_SECONDS: Final = 7 * 24 * 3600

UNUSABLE: Final = "unusable_job"
EXECUTION_UNKNOWN: Final = "execution_unknown"
# Endings that a worker gave an execution over the job; of all others the execution's owner knows.
DEAD_REASONS: Final = frozenset(
    {"worker_lost", "unknown_pipeline", "pipeline_not_allowed", "invalid_input", "planning_failed"}
)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """``execution_id`` is None for an entry that named none. ``ts`` is when it was written, by Redis's clock."""

    queue: str
    entry_id: str
    execution_id: str | None
    reason: str
    message: str
    pipeline: str | None
    attempts: int
    ts: str


class DeadLetters:
    """Every method raises BusUnavailableError."""

    def __init__(self, commands: Commands, keys: Keys, jobs: Jobs, *, max_event_bytes: int) -> None:
        self._commands = commands
        self._keys = keys
        self._jobs = jobs
        self._max_event_bytes = max_event_bytes
        self._note = Script.load("note")

    async def add(self, execution_id: str, reason: str, message: str) -> None:
        """Keep one of an execution, once; ``reason`` is a word for programs, ``message`` a sentence for people."""
        meta = self._keys.meta(execution_id)
        queue, pipeline, attempts, dead = await self._commands.command(
            "HMGET", meta, "queue", "pipeline", "attempt", "dead"
        )
        if dead is not None:
            return
        entry_id = await self._write(
            text(queue) or "default",
            execution_id,
            reason,
            message,
            pipeline=text(pipeline) or "",
            attempts=text(attempts) or "0",
        )
        await self._note.run(self._commands, (meta,), "dead", entry_id)
        await self._commands.command("EXPIRE", meta, KEPT_SECONDS, "GT")

    async def add_unusable(self, job: UnusableJob, execution_id: str | None = None) -> None:
        await self._write(job.queue, execution_id, UNUSABLE, job.defect)

    async def add_unknown(self, queue: str, execution_id: str) -> None:
        """Keep one of a job whose execution is gone: it waited for longer than anything is kept, or never was."""
        await self._write(queue, execution_id, EXECUTION_UNKNOWN, str(ExecutionUnknownError(execution_id)))

    async def bury(self, state: State, *, retried: bool) -> None:
        """Keep one of an execution that has ended, if it is one that came to nothing; of any failure if ``retried``."""
        if state.status != "failed" or state.terminal is None:
            return
        at = str(state.terminal)
        raw = await self._commands.command("XRANGE", self._keys.log(state.execution_id), at, at)
        data: Any = decode(*raw[0], limit_bytes=self._max_event_bytes).data if raw else None
        if isinstance(data, dict) and (retried or data.get("reason") in DEAD_REASONS):
            await self.add(state.execution_id, str(data.get("reason")), str(data.get("message")))

    async def queues(self) -> list[str]:
        """The queues that may have some."""
        return await self._jobs.queues.names()

    async def list(self, queue: str, *, before: str | None = None, count: int = PAGE_LETTERS) -> Sequence[DeadLetter]:
        """The newest first; ``before`` is the entry id of the last that was seen. Raises InvalidCursorError."""
        end = "+" if before is None else f"({parse(before, field='before')}"
        raw = await self._commands.command("XREVRANGE", self._keys.dead_letters(queue), end, "-", "COUNT", count)
        return [_letter(queue, entry) for entry in raw]

    async def requeue(self, queue: str, entry_id: str, *, ts: str) -> str:
        """Submit the same again under a new id, which is returned, and drop the letter. Twice gives the same id.

        An execution that has ended is never opened again. Raises DeadLetterUnknownError, ExecutionUnknownError when
        what was to be done is not known any more, ConcurrencyConflictError, QueueFullError; InvalidInputError for a
        letter that names no execution, or one whose input is no JSON object.
        """
        letter = await self._get(queue, entry_id)
        if letter.execution_id is None:
            raise InvalidInputError("entry_id", f"{entry_id} names no execution; it can only be dropped")
        submission = await self._jobs.submission_of(letter.execution_id)
        if submission is None:
            raise ExecutionUnknownError(letter.execution_id)
        again = replace(
            submission,
            execution_id=id_of_repetition(letter.execution_id),
            delay_seconds=0.0,
            requeued_from=letter.execution_id,
        )
        await self._jobs.submit(again, ts=ts)
        await self._delete(queue, entry_id)
        return again.execution_id

    async def drop(self, queue: str, entry_id: str) -> None:
        """Raises DeadLetterUnknownError, InvalidCursorError."""
        if not await self._delete(queue, entry_id):
            raise DeadLetterUnknownError(queue, entry_id)

    async def _get(self, queue: str, entry_id: str) -> DeadLetter:
        at = str(parse(entry_id, field="entry_id"))
        raw = await self._commands.command("XRANGE", self._keys.dead_letters(queue), at, at)
        if not raw:
            raise DeadLetterUnknownError(queue, entry_id)
        return _letter(queue, raw[0])

    async def _delete(self, queue: str, entry_id: str) -> bool:
        return bool(
            await self._commands.command("XDEL", self._keys.dead_letters(queue), str(parse(entry_id, field="entry_id")))
        )

    async def _write(
        self,
        queue: str,
        execution_id: str | None,
        reason: str,
        message: str,
        *,
        pipeline: str = "",
        attempts: str = "0",
    ) -> str:
        short = message[:MAX_MESSAGE_CHARS].encode("utf-8", "replace")
        entry_id: bytes = await self._commands.command(
            "XADD", self._keys.dead_letters(queue), "MAXLEN", "~", MAX_LETTERS, "*",
            "id", execution_id or "", "reason", reason, "message", short, "pipeline", pipeline, "attempts", attempts,
        )  # fmt: skip
        return entry_id.decode()


def _letter(queue: str, raw: RawEntry) -> DeadLetter:
    """Read an entry, which any program may have written."""
    raw_id, raw_fields = raw
    values = raw_fields or ()
    fields = dict(zip(values[::2], values[1::2], strict=False))
    attempts = fields.get(b"attempts")
    return DeadLetter(
        queue,
        raw_id.decode(),
        text(fields.get(b"id")) or None,
        text(fields.get(b"reason")) or UNUSABLE,
        text(fields.get(b"message")) or "",
        text(fields.get(b"pipeline")) or None,
        number(attempts, max_digits=_ATTEMPTS_DIGITS) or 0,
        ts_of(from_id(raw_id).ms),
    )
