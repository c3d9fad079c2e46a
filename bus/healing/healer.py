"""Finds executions whose owner is gone, and says in their logs what becomes of them.

Every worker and every gateway has one running, so that the truth is told though all the workers are dead. Whoever gets
the lease decides; a healer that dies over a decision is replaced like the owner that it stood in for.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Final, Protocol

from tailrace.bus.activity import Activity
from tailrace.bus.errors import (
    BusClosedError,
    BusError,
    BusUnavailableError,
    EventTooLargeError,
    ExecutionClosedError,
    ExecutionUnknownError,
    FenceStaleError,
    LeaseHeldError,
    LeaseLostError,
    NotOrphanedError,
    ReplyError,
    TransitionRefusedError,
)
from tailrace.bus.healing.decision import WORKER_LOST, Cancellation, Decision, cancellation_of, judge, timed_out
from tailrace.bus.log.index import ExecutionIndex
from tailrace.bus.log.log import Log
from tailrace.bus.model.codec import decode, encode, ts_of
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.entry import Entry
from tailrace.bus.model.event import CANCELLED, FAILED, RETRYING, Event, shortened
from tailrace.bus.model.fields import number, text
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.state import State
from tailrace.bus.model.trace import meta_of, traceparent_of
from tailrace.bus.ownership.gate import TakeOverGate
from tailrace.bus.ownership.lease import Leases, Orphan
from tailrace.bus.ownership.session import Sessions
from tailrace.bus.redis.commands import Commands, server_ms
from tailrace.bus.redis.retrying import retry_unavailable

logger = logging.getLogger(__name__)

# How often the index is asked what is due: half of the two seconds that a death may take to be told.
LOOK_SECONDS: Final = 0.5
# What one healer takes on at a time, and for how long the others leave it alone.
CLAIM_COUNT: Final = 64
CLAIM_MS: Final = 1000
# How often a waiting execution is looked at, whether its job is still there: at first, and at last.
JOB_CHECK_SECONDS: Final = 15.0
MAX_JOB_CHECK_SECONDS: Final = 600.0
# How often at least within the time to live of what is quiet.
LOOKS_A_LIFE: Final = 4
# An execution changes under our eyes: looked at again so often before it is left to the next turn.
LOOKS: Final = 4
APPEND_ATTEMPTS: Final = 5
READ_REQUESTS: Final = 2048


class JobQueue(Protocol):
    """What brings workers to executions that wait for one."""

    async def has_job(self, execution_id: str) -> bool: ...

    async def requeue(self, execution_id: str) -> None: ...


class DeadLetterStore(Protocol):
    async def add(self, execution_id: str, reason: str, message: str) -> object: ...


class Healer:
    """``name`` is the process's; what is None is left out."""

    def __init__(
        self,
        *,
        name: str,
        commands: Commands,
        keys: Keys,
        log: Log,
        leases: Leases,
        index: ExecutionIndex,
        counters: Counters,
        activity: Activity,
        gate: TakeOverGate,
        sessions: Sessions | None = None,
        jobs: JobQueue | None = None,
        dead_letters: DeadLetterStore | None = None,
    ) -> None:
        self._name = name
        self._commands = commands
        self._keys = keys
        self._log = log
        self._leases = leases
        self._index = index
        self._counters = counters
        self._activity = activity
        self._jobs = jobs
        self._dead_letters = dead_letters
        self._gate = gate
        self._sessions = sessions
        self._calls = itertools.count(1)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Run in the background meanwhile."""
        task = asyncio.create_task(self.run(), name="healer")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def run(self) -> None:
        """Heal what is due, until cancelled or the bus is closed. Outages of Redis are waited out."""
        more, away = False, False
        while True:
            try:
                if not more:
                    await asyncio.sleep(LOOK_SECONDS * (0.6 + 0.4 * random.random()))
                more = await self._turn()
                away = False
            except BusClosedError:
                return
            except BusUnavailableError as error:
                more = False
                if not away:
                    logger.warning("healing cannot reach Redis: %s; retrying", error)
                away = True
                self._gate.close(str(error))
                await asyncio.sleep(LOOK_SECONDS)

    async def heal(self, execution_id: str, *, dead_session: str = "") -> Decision | None:
        """Look at one execution now. Returns the decision if it was an orphan and we got to make it.

        Raises BusUnavailableError; ReplyError when its keys are not what they must be.
        """
        for _ in range(LOOKS):
            state = await self._log.state(execution_id)
            if state is None:
                await self._index.drop(execution_id)
                return None
            if state.terminal is not None:
                await self._close(state, state.terminal)
                return None
            cancellation = await self._cancellation(execution_id) if state.status == "cancelling" else None
            cancel_after_ms = _over_ms(cancellation) if state.status == "cancelling" else None
            try:
                orphan = await self._leases.heal(
                    execution_id,
                    f"{self._name}.heal{next(self._calls)}",
                    cancel_after_ms=cancel_after_ms,
                    dead_session=dead_session,
                )
            except LeaseHeldError as held:
                due_ms = held.until_ms if cancel_after_ms is None else min(held.until_ms, cancel_after_ms)
                await self._index.look_at_all({execution_id: due_ms})
                return None
            except NotOrphanedError:
                if (ending := await self._overdue(state)) is not None:
                    return await self._time_out(state, ending)
                # Only submitting queues; what has no owner may pause itself, and then is nobody's to end.
                if state.submitted is None and (state.status == "queued" or (state.fence and state.status == "paused")):
                    return await self._end_forgotten(state)
                await self._look_for_job(state)
                return None
            except ExecutionClosedError:
                continue
            return await self._decide(orphan, state)
        return None

    async def look_after(self, execution_ids: Iterable[str]) -> None:
        """Heal those whose lease has run out, and put back what the index has lost; for what is being watched here.

        Raises BusUnavailableError.
        """
        if not await self._gate.is_open():
            return
        ids = list(execution_ids)
        now_ms = await server_ms(self._commands)
        found = await asyncio.gather(*(self._log.state(each) for each in ids), return_exceptions=True)
        lost: dict[str, int] = {}
        for state in found:
            if isinstance(state, BaseException):
                if not isinstance(state, ReplyError):
                    raise state
            elif state is not None and not state.ended and (state.fence or state.submitted or state.status == "queued"):
                # Without a lease there is nothing to wait for.
                lost[state.execution_id] = max(state.lease_until_ms or 0, now_ms - 1)
        await self._index.restore(lost)
        await self._heal_all([each for each, at_ms in lost.items() if at_ms < now_ms])

    async def _turn(self) -> bool:
        """Whether there may be more that is due."""
        is_open = await self._gate.is_open()
        if self._sessions is not None and not self._gate.is_suspended:
            for session, execution_ids in (await self._dead_sessions(self._sessions)).items():
                self._counters.add("sessions_lost")
                logger.warning("session %s is gone; %d executions have lost their owner", session, len(execution_ids))
                if await self._heal_all(execution_ids, dead_session=session):
                    await self._sessions.forget(session)
        if not is_open:
            # It is due because its owner could not renew: owners come first.
            return False
        due = await self._index.claim_due(CLAIM_COUNT, CLAIM_MS)
        await self._heal_all(due)
        return len(due) == CLAIM_COUNT

    async def _dead_sessions(self, sessions: Sessions) -> dict[str, list[str]]:
        try:
            return await sessions.find_dead()
        except BusUnavailableError as error:
            # Of a cluster, one node may be away; what is due on the others is healed all the same.
            logger.debug("sessions cannot be looked at: %s", error)
            return {}

    async def _heal_all(self, execution_ids: list[str], *, dead_session: str = "") -> bool:
        """Whether each could be looked at."""
        results = await asyncio.gather(
            *(self.heal(each, dead_session=dead_session) for each in execution_ids), return_exceptions=True
        )
        fine = True
        for execution_id, result in zip(execution_ids, results, strict=True):
            if isinstance(result, (BusClosedError, asyncio.CancelledError)):
                raise result
            if not isinstance(result, BaseException):
                continue
            self._counters.add("heal_errors")
            if isinstance(result, ReplyError) and result.is_of_the_key:
                logger.error(
                    "execution %s cannot be healed, another program wrote to its keys: %s", execution_id, result
                )
                await self._index.drop(execution_id)
            elif isinstance(result, BusError):
                fine = False
                logger.warning("execution %s was not healed: %s; retrying", execution_id, result)
            else:
                logger.error("execution %s: healing failed unexpectedly; retrying", execution_id, exc_info=result)
        return fine

    async def _decide(self, orphan: Orphan, state: State, ending: Event | None = None) -> Decision | None:
        """``ending`` is what becomes of it, where that is known, unless it is to be cancelled."""
        lease = orphan.lease
        cancelling = lease.status == "cancelling"
        cursor: Cursor | None = None
        while cursor is None:
            cancellation = await self._cancellation(lease.execution_id) if cancelling else None
            event = ending if ending and not cancelling else judge(orphan, cancellation, cancelling=cancelling)
            try:
                cursor = await self._append(orphan, event)
            except TransitionRefusedError as refusal:
                if cancelling or refusal.status != "cancelling":
                    raise
                # Somebody asked for it since we looked: that is answered first.
                cancelling = True
            except (FenceStaleError, ExecutionClosedError):
                # It took us too long, and another healer has decided.
                return None
        self._counters.add(f"healed_{event.type.partition('.')[2]}")
        logger.warning(
            "execution %s: appended %s on behalf of its lost owner %s",
            lease.execution_id,
            event.type,
            orphan.lost_owner or "(unknown)",
        )
        if event.type == RETRYING:
            await self._hand_on(orphan, state)
        else:
            await self._bury(state, event)
            # The activity drops it from the index once the ending stands there; until then it is looked at again.
        return Decision(lease.execution_id, event, cursor)

    async def _append(self, orphan: Orphan, event: Event) -> Cursor:
        """Append the decision once, however often it takes."""
        lease = orphan.lease
        trace = text(await self._commands.command("HGET", self._keys.meta(lease.execution_id), "trace"))
        fields = self._encode(replace(event, meta=meta_of(traceparent_of(trace))))
        append = partial(
            self._log.append, lease.execution_id, [fields], producer=f"heal.{lease.fence}", seq=1, fence=lease.fence
        )
        return (await retry_unavailable(append, attempts=APPEND_ATTEMPTS)).last

    def _encode(self, event: Event) -> list[bytes]:
        ts = ts_of(time.time_ns() // 1_000_000)
        try:
            return encode(event, ts=ts, limit_bytes=self._log.max_event_bytes)
        except EventTooLargeError:
            # Events may be as small as 256 bytes; that it ended must fit into any.
            short = shortened(event.data, "reason", "attempt", "forced")
            if event.type == CANCELLED:
                # Somebody's own words, of any length.
                short["reason"] = "cancelled"
            return encode(Event(event.type, short), ts=ts)

    async def _hand_on(self, orphan: Orphan, state: State) -> None:
        # If we die here, it is due again in a moment, and the next healer finds that it has no job.
        with suppress(LeaseLostError):
            await self._leases.release(orphan.lease)
        await self._queue_again(state)

    async def _overdue(self, state: State) -> Event | None:
        """How it ends, if it has waited for a worker for too long."""
        if state.waits_until_ms is None or state.waits_until_ms > await server_ms(self._commands):
            return None
        raw = await self._commands.command(
            "HMGET", self._keys.meta(state.execution_id), "timeout_ms", "start_within_ms"
        )
        timeout_ms, start_within_ms = raw
        return timed_out(state, number(timeout_ms), number(start_within_ms))

    async def _time_out(self, state: State, ending: Event) -> Decision | None:
        name = f"{self._name}.heal{next(self._calls)}"
        try:
            orphan = await self._leases.heal(state.execution_id, name, overdue=True)
        except (LeaseHeldError, NotOrphanedError, ExecutionClosedError):
            # A worker has taken it meanwhile, and knows how long it has.
            return None
        return await self._decide(orphan, state, ending)

    async def _end_forgotten(self, state: State) -> Decision | None:
        """It waits, but no job brings a worker to it. Any program has had a lease's time to take it over."""
        latest, now_ms = await self._log.latest(state.execution_id), await server_ms(self._commands)
        over_ms = latest.ms + int(self._leases.lease_seconds * 1000)
        if over_ms > now_ms:
            await self._index.look_at_all({state.execution_id: over_ms})
            return None
        name = f"{self._name}.heal{next(self._calls)}"
        try:
            orphan = await self._leases.heal(state.execution_id, name, forgotten=True)
        except (LeaseHeldError, NotOrphanedError, ExecutionClosedError):
            # It was taken meanwhile, and is due again with its renewals.
            return None
        return await self._decide(orphan, state)

    async def _queue_again(self, state: State) -> None:
        if self._jobs is not None and state.submitted is not None:
            try:
                await self._jobs.requeue(state.execution_id)
            except ExecutionUnknownError:
                logger.error("execution %s is queued, but its queue is unknown: its state was lost", state.execution_id)  # noqa: TRY400 - no trace helps
            else:
                self._counters.add("jobs_requeued")
        await self._look_later(state)

    async def _look_for_job(self, state: State) -> None:
        """A run that waits must have a job, or it waits for ever: it may have been lost between two keys."""
        if state.submitted is None:
            # It has never begun, or it runs without a lease: there is nothing that could be lost.
            await self._index.drop(state.execution_id)
        elif self._jobs is None or await self._jobs.has_job(state.execution_id):
            await self._look_later(state)
        else:
            logger.warning("execution %s is queued, but its job was lost; queued again", state.execution_id)
            await self._queue_again(state)

    async def _close(self, state: State, terminal: Cursor) -> None:
        """Do what the one who ended it may not have come to; repeating it does no harm."""
        entry = await self._entry_at(state.execution_id, terminal)
        if entry is None:
            await self._index.drop(state.execution_id)
            return
        event = Event(entry.type, entry.data, ts=entry.ts)
        await self._bury(state, event)
        # Drops it from the index once it stands there, and not before: else it would never be told.
        await self._activity.tell(state, terminal, event)

    async def _bury(self, state: State, event: Event) -> None:
        if state.submitted is None or event.type != FAILED or not isinstance(event.data, dict):
            return
        if event.data.get("reason") == WORKER_LOST and self._dead_letters is not None:
            await self._dead_letters.add(state.execution_id, WORKER_LOST, str(event.data.get("message")))

    async def _entry_at(self, execution_id: str, cursor: Cursor) -> Entry | None:
        raw = await self._commands.command("XRANGE", self._keys.log(execution_id), str(cursor), str(cursor))
        return decode(*raw[0], limit_bytes=self._log.max_event_bytes) if raw else None

    async def _look_later(self, state: State) -> None:
        """The longer it has waited, the seldomer: a long queue is not read over and over."""
        now_ms = await server_ms(self._commands)
        waited_seconds = (now_ms - (state.created_ms or now_ms)) / 1000
        # And often enough that nothing expires while it waits.
        seconds = min(
            MAX_JOB_CHECK_SECONDS, max(JOB_CHECK_SECONDS, waited_seconds / 2), self._leases.live_seconds / LOOKS_A_LIFE
        )
        look_ms = now_ms + int(seconds * 1000)
        if state.waits_until_ms is not None:
            look_ms = min(look_ms, max(now_ms, state.waits_until_ms))
        await self._index.look_at_all({state.execution_id: look_ms})

    async def _cancellation(self, execution_id: str) -> Cancellation | None:
        raw = await self._commands.command("XRANGE", self._keys.control(execution_id), "-", "+", "COUNT", READ_REQUESTS)
        return cancellation_of(raw)


def _over_ms(cancellation: Cancellation | None) -> int:
    # The request itself was lost, and with it how long it was to be waited for.
    return 0 if cancellation is None else cancellation.over_ms
