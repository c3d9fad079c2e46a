"""The time for which one owner runs an execution: from taking it to its ending, or to letting go of it."""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn, Unpack

from tailrace.bus.errors import BusError, EventTooLargeError, ExecutionClosedError, TransitionRefusedError
from tailrace.bus.log.log import Log
from tailrace.bus.log.publisher import Publisher, PublisherOptions
from tailrace.bus.model.control_request import GRACE_SECONDS, LOST_REQUEST, ControlRequest
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.event import RETRYING, STARTED, shortened
from tailrace.bus.ownership.body import Body
from tailrace.bus.ownership.checkpoints import Checkpoints
from tailrace.bus.ownership.control_stream import ControlStream
from tailrace.bus.ownership.deadline import ExecutionDeadline
from tailrace.bus.ownership.ending import ENDING_SECONDS, Ending, Overrun, Stop, append_ending, stopped
from tailrace.bus.ownership.heartbeat import Heartbeat
from tailrace.bus.ownership.held_lease import HeldLease
from tailrace.bus.ownership.lease import Lease, Leases
from tailrace.bus.ownership.left_calls import LeftCalls
from tailrace.bus.ownership.signals import SignalInbox
from tailrace.bus.ownership.steering import Steering
from tailrace.bus.redis.commands import Commands
from tailrace.bus.redis.retrying import retry_unavailable
from tailrace.bus.tail.watch import Tail

logger = logging.getLogger(__name__)

# For how long a body may clean up when another has its execution.
LOST_SECONDS: Final = 5.0


OnUncertain = Literal["stop", "continue"]
"""What an owner does that cannot renew its lease: stop before another may begin, or go on, knowing that one may."""


@dataclass(frozen=True, slots=True)
class OwnershipOptions:
    """Who runs what, and within which bounds; ``publisher`` are options of the body's."""

    execution_id: str
    owner: str
    pipeline: str | None
    max_attempts: int | None
    timeout_seconds: float | None
    on_uncertain: OnUncertain
    publisher: PublisherOptions


class Ownership:
    """``ended`` says that its ending stands in the log, ``handed_back`` that it is left to a next owner."""

    def __init__(  # noqa: PLR0917 - the bus's own parts, and only the bus makes one
        self,
        commands: Commands,
        log: Log,
        leases: Leases,
        heartbeat: Heartbeat,
        checkpoints: Checkpoints,
        terms: OwnershipOptions,
    ) -> None:
        self.ended = False
        self.handed_back = False
        # Set when the body was stopped because the lease could not be renewed.
        self.doubted = False
        self.body = Body(self._end_by_force)
        self.left_calls = LeftCalls()
        self._limit: asyncio.TimerHandle | None = None
        self.deadline = ExecutionDeadline(terms.timeout_seconds, self._time_out)
        self.lease = HeldLease(
            leases,
            heartbeat,
            counters=log.counters,
            is_over=self._is_over,
            is_acting=self._is_acting,
            on_lost=self._lose,
            on_uncertain=self._doubt,
            on_cancelling=self._remind,
        )
        self.steering = Steering(
            SignalInbox(terms.execution_id, log.counters),
            new_publisher=lambda: self.new_side_publisher(give_up_after_seconds=math.inf),
            flush=self._flush,
            keep_given=self._keep_given,
            cancel=self._cancel,
            clock=self.deadline,
            note_status=self._note_status,
        )
        # What every event of this owner carries.
        self.meta: dict[str, Any] | None = terms.publisher.get("meta")
        self._checkpoints = checkpoints
        self._log = log
        self._terms = terms
        self._publisher: Publisher | None = None
        self._side_publishers = 0
        self._reminders = 0
        self._requests = ControlStream(
            commands,
            log.keys,
            terms.execution_id,
            self.steering.take,
            counters=log.counters,
            limit_bytes=log.max_event_bytes,
        )

    @property
    def publisher(self) -> Publisher:
        """The body's."""
        if self._publisher is None:
            raise RuntimeError("the execution has not been entered: use 'async with'")
        return self._publisher

    async def begin(self, tail: Tail) -> None:
        """Take it and say so.

        Raises LeaseHeldError; ExecutionClosedError when it has ended, or was to be cancelled, which then is its ending.
        """
        terms = self._terms
        lease = await self.lease.take(terms.execution_id, terms.owner, terms.pipeline, terms.max_attempts)
        self._publisher = self._new_publisher("body", **terms.publisher)
        try:
            await self._begin(lease)
            self._requests.watch(tail)
        except BaseException:
            await self.leave()
            raise

    async def append_ending(self, ending: Ending) -> None:
        """Raises as ``tailrace.bus.ownership.ending.append_ending`` does."""
        await self.steering.settle()
        await append_ending(self.publisher, ending, self.new_side_publisher)
        self.ended = True

    async def hand_back(self, reason: str, details: dict[str, Any]) -> None:
        """Waits for what the body has left behind: another may begin at once.

        Raises AppendRefusedError, PublishFailedError.
        """
        await self.left_calls.ended()
        await self.publisher.flush()
        side_publisher = self.new_side_publisher()
        told = {"attempt": self.lease.attempt + 1, "reason": reason, **details}
        try:
            try:
                await side_publisher.append(RETRYING, told)
            except EventTooLargeError:
                # Events may be as small as 256 bytes.
                await side_publisher.append(RETRYING, shortened(told, "attempt", "reason", "delay_seconds"))
        except TransitionRefusedError as refusal:
            await self._find_cancellation(refusal)
        else:
            self.handed_back = True
            await self.publisher.abandon()
        finally:
            await side_publisher.abandon()

    async def leave(self) -> None:
        """Let go of everything."""
        if self._limit is not None:
            self._limit.cancel()
        self._requests.close()
        await self.steering.aclose()
        await self.publisher.abandon()
        if self.ended or self.left_calls:
            # What still acts must not meet another: that one has to wait for the lease to run out.
            self.lease.relax()
        else:
            # That Redis could not be reached is not this attempt's fault. Who stands down says that himself.
            await self.lease.release(unspent=self.doubted and not (self.handed_back or self.body.stands_down))

    def new_side_publisher(self, give_up_after_seconds: float = ENDING_SECONDS) -> Publisher:
        """Make a publisher that works beside that of the body."""
        self._side_publishers += 1
        return self._new_publisher(
            f"words{self._side_publishers}", give_up_after_seconds=give_up_after_seconds, meta=self.meta
        )

    def _new_publisher(self, part: str, **options: Unpack[PublisherOptions]) -> Publisher:
        # One producer a ownership and part: numbers of a predecessor never meet ours.
        fence = self.lease.fence
        producer = f"{self._terms.owner}.{fence}.{part}"
        return Publisher(self._log, self._terms.execution_id, producer=producer, fence=fence, **options)

    async def _flush(self) -> None:
        await self.publisher.flush()

    async def _keep_given(self, given: dict[str, str]) -> None:
        store = self._checkpoints.store_given
        # However long Redis is away: who waits here is cancelled when the lease is in doubt.
        await retry_unavailable(lambda: store(self._terms.execution_id, given, fence=self.lease.fence))

    async def _begin(self, lease: Lease) -> None:
        """Raises ExecutionClosedError when it was to be cancelled, and now is."""
        steering = self.steering
        if lease.status == "paused":
            steering.stand_still()
        if lease.status == "cancelling":
            await self._requests.read()
            await self._end_at_once()
        if lease.status in {"running", "paused"} and not lease.waited:
            # Its owner is gone: that attempt ends here, ours begins.
            await self.publisher.emit(RETRYING, {"attempt": lease.attempt, "reason": "worker_lost"})
        pipeline = {} if self._terms.pipeline is None else {"pipeline": self._terms.pipeline}
        await self.publisher.emit(STARTED, {"attempt": lease.attempt, "owner": self._terms.owner, **pipeline})
        await self._requests.read()
        try:
            await self.publisher.flush()
        except TransitionRefusedError as refusal:
            await self._find_cancellation(refusal)
        if self.body.stop is not None:
            await self._end_at_once()
        # Not the attempt: one that was handed back without spending it has answered requests, too.
        answered: set[str] = set()
        given: dict[str, Cursor] = {}
        if lease.fence > 1:
            answered = await self._requests.answered(steering.asked)
            given = await self._checkpoints.given(lease.execution_id)
        self.lease.note_status(lease.status if lease.status == "paused" else "running")
        steering.begin(answered, given)

    async def _find_cancellation(self, refusal: TransitionRefusedError) -> None:
        """Nothing goes on in what was told to cancel. Raises any other refusal."""
        if refusal.status != "cancelling":
            raise refusal
        await self._requests.read()
        self._cancel(LOST_REQUEST)

    async def _end_at_once(self) -> NoReturn:
        side_publisher = self.new_side_publisher()
        try:
            cursor = await append_ending(
                side_publisher, stopped(self.body.stop or LOST_REQUEST), self.new_side_publisher
            )
            self.ended = True
        finally:
            await side_publisher.abandon()
        raise ExecutionClosedError(self._terms.execution_id, str(cursor))

    # What happens to it from outside, between two turns of the loop.

    def _note_status(self, status: str) -> None:
        self.lease.note_status(status)

    def _cancel(self, request: ControlRequest) -> None:
        self.lease.note_status("cancelling")
        self._stop_for(request, request.grace_seconds)

    def _time_out(self) -> None:
        if self._terms.timeout_seconds is not None:
            self._stop_for(Overrun(self._terms.timeout_seconds), GRACE_SECONDS)

    def end_in(self, seconds: float, stop: Stop) -> None:
        """Stop it after so long, though it be paused."""
        self._limit = asyncio.get_running_loop().call_later(max(0.0, seconds), self._stop_for, stop, GRACE_SECONDS)

    def _stop_for(self, stop: Stop, grace_seconds: float) -> None:
        if self.lease.lost is None:
            self.steering.release()
            self.body.stop_for(stop, grace_seconds)

    async def _end_by_force(self, stop: Stop) -> bool:
        try:
            async with asyncio.timeout(ENDING_SECONDS):
                await self.append_ending(stopped(stop, forced=True))
        except (BusError, TimeoutError) as refusal:
            logger.warning(
                "execution %s could not be ended by force: %s; a healer will end it", self._terms.execution_id, refusal
            )
            return False
        self._log.counters.add("bodies_abandoned")
        logger.error(
            "execution %s has been ended, but its code does not stop and is still running", self._terms.execution_id
        )
        self.lease.relax()
        return True

    def _remind(self) -> None:
        self._reminders += 1
        if self._reminders == 1:
            self._requests.look_again()
        elif self.body.stop is None:
            # The request itself is gone; that there was one is certain.
            self._cancel(LOST_REQUEST)

    def _is_over(self) -> bool:
        return self.ended or self.handed_back or self.publisher.closes_log

    def _is_acting(self) -> bool:
        """Whether anything acts that must not when another begins. Asked from the heartbeat's thread."""
        return self._terms.on_uncertain == "stop" and (self.body.is_acting or bool(self.left_calls))

    def _doubt(self) -> None:
        execution_id = self._terms.execution_id
        if self._terms.on_uncertain == "continue":
            logger.warning("execution %s: its lease cannot be renewed; continuing, as on_uncertain says", execution_id)
            return
        if self.doubted:
            # It is stopping already.
            return
        self.doubted = True
        logger.error("execution %s: its lease cannot be renewed; stopping before another may take over", execution_id)
        self._lose()

    def _lose(self) -> None:
        self.steering.release()
        self.body.lose(LOST_SECONDS)
