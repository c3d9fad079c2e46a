"""Work waiting to be done: a stream per queue, a consumer group of workers.

A job names its execution; what is to be done stands in the execution's state, so that a lost job can be queued again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

import orjson

from bus.codec import encode
from bus.errors import ExecutionExistsError, InvalidEventError, ReplyError
from bus.event import QUEUED, Event, encode_json
from bus.keys import Keys
from bus.line import Commands
from bus.log import Log
from bus.retention import Retention
from bus.script import Script

GROUP: Final = "workers"
MAX_INPUT_BYTES: Final = 256 * 1024
MAX_WAITING_JOBS: Final = 1_000_000


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
    """A submission taken from the queue; ``entry_id`` is what must be acknowledged."""

    entry_id: str
    submission: Submission


class Jobs:
    def __init__(self, commands: Commands, log: Log, keys: Keys, retention: Retention) -> None:
        self._commands = commands
        self._log = log
        self._keys = keys
        self._retention = retention
        self._submit = Script.load("submit")

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
        if not appended.written:
            return False
        await self._commands.command(
            "XADD", self._keys.jobs(submission.queue), "MAXLEN", "~", MAX_WAITING_JOBS, "*",
            "id", submission.execution_id,
        )  # fmt: skip
        return True

    async def submission_of(self, execution_id: str) -> Submission | None:
        """What the state says is to be done; None for an execution that nobody submitted, or that is gone."""
        pipeline, given, queue, tenant = await self._commands.command(
            "HMGET", self._keys.meta(execution_id), "pipeline", "input", "queue", "tenant"
        )
        if pipeline is None or given is None:
            return None
        try:
            parsed = orjson.loads(given)
        except orjson.JSONDecodeError as error:
            raise InvalidEventError("input", f"of execution {execution_id} is not JSON: {error}") from None
        return Submission(
            execution_id,
            pipeline.decode(),
            parsed,
            queue.decode() if queue else "default",
            tenant.decode() if tenant else None,
        )
