"""An execution, as its owner sees it: lease, fence, steering and ending around any piece of code."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from tailrace.bus.errors import BusError, FenceStaleError, InvalidInputError, LeaseLostError
from tailrace.bus.log.log import Log
from tailrace.bus.log.publisher import Publisher, PublisherOptions
from tailrace.bus.model.control_request import ControlRequest
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.event import COMPLETED, FAILED, TERMINAL_TYPES
from tailrace.bus.model.fence import Fence
from tailrace.bus.ownership.checkpoints import Checkpoints
from tailrace.bus.ownership.ending import ENDING_SECONDS, Overrun, ending_of
from tailrace.bus.ownership.ending import failure_of as failure_of  # noqa: PLC0414 - part of what this module offers
from tailrace.bus.ownership.heartbeat import Heartbeat
from tailrace.bus.ownership.lease import Leases
from tailrace.bus.ownership.left_calls import LeftCalls
from tailrace.bus.ownership.ownership import OnUncertain, Ownership, OwnershipOptions
from tailrace.bus.ownership.signals import Signal
from tailrace.bus.redis.commands import Commands
from tailrace.bus.tail.watch import Tail

logger = logging.getLogger(__name__)


class Execution:
    """Appends ``execution.started`` on entering and the right terminal event on leaving.

    Leaving normally completes it with ``result``; an exception fails it with its sentence; cancellation cancels it.
    When somebody asks to cancel it, the body sees CancelledError; one that does not stop within the grace is abandoned,
    and the execution ends without it. When the lease is lost the body is cancelled likewise, and who entered sees
    LeaseLostError: somebody else runs it now and will end it. Where the body says something, or comes to a
    ``pause_point``, it stands still for as long as it is paused.
    """

    def __init__(  # noqa: PLR0917 - the bus's own parts, and only the bus makes one
        self,
        commands: Commands,
        log: Log,
        leases: Leases,
        heartbeat: Heartbeat,
        checkpoints: Checkpoints,
        open_tail: Callable[[], Awaitable[Tail]],
        execution_id: str,
        *,
        owner: str,
        pipeline: str | None,
        max_attempts: int | None,
        timeout_seconds: float | None,
        on_uncertain: OnUncertain,
        claim: Callable[[], Awaitable[None]] | None,
        publisher: PublisherOptions,
    ) -> None:
        """``claim`` is called before it is taken, and may refuse by raising."""
        if timeout_seconds is not None and not 0 < timeout_seconds < math.inf:
            raise InvalidInputError("timeout_seconds", "expected a number of seconds, more than 0")
        self.id = execution_id
        self.result: Any = None
        self.pipeline = pipeline
        self.owner = owner
        self._open_tail = open_tail
        self._claim = claim
        self._ownership = Ownership(
            commands,
            log,
            leases,
            heartbeat,
            checkpoints,
            OwnershipOptions(execution_id, owner, pipeline, max_attempts, timeout_seconds, on_uncertain, publisher),
        )

    @property
    def publisher(self) -> Publisher:
        """Raises RuntimeError before it has been entered."""
        return self._ownership.publisher

    @property
    def attempt(self) -> int:
        """1 for the first who ran it, rising with every take-over."""
        return self._ownership.lease.attempt

    @property
    def fence(self) -> Fence:
        """Risen with every taking: what we write counts while no other has a higher one."""
        return self._ownership.lease.fence

    @property
    def meta(self) -> dict[str, Any] | None:
        """What all its events carry, beside their own."""
        return self._ownership.meta

    @property
    def uncertain(self) -> bool:
        """Whether its body was stopped because its lease could not be renewed; not once it is known to be another's."""
        return self._ownership.doubted and self._ownership.lease.lost is None

    @property
    def left_calls(self) -> LeftCalls:
        """Calls that go on though the body has left them, such as threads; handing back waits for them."""
        return self._ownership.left_calls

    @property
    def cancel_request(self) -> ControlRequest | None:
        """Who asked to cancel it, and why, once somebody has."""
        return self._ownership.steering.cancel_request

    @property
    def abandoned(self) -> asyncio.Event:
        """Set when it was ended, or is another's, over a body that does not stop: that body need not be waited for."""
        return self._ownership.body.abandoned

    async def emit(
        self,
        event_type: str,
        data: Any = None,
        *,
        step: str | None = None,
        meta: dict[str, Any] | None = None,
    ) -> None:
        """Buffer one event, off the critical path, where it is not paused. See Publisher.emit."""
        if self._ownership.steering.halted and event_type not in TERMINAL_TYPES:
            await self._ownership.steering.pause_point()
        await self.publisher.emit(event_type, data, step=step, meta=meta)

    async def append(self, event_type: str, data: Any = None, *, step: str | None = None) -> Cursor:
        """Emit one event and wait until it is in the log."""
        if self._ownership.steering.halted and event_type not in TERMINAL_TYPES:
            await self._ownership.steering.pause_point()
        return await self.publisher.append(event_type, data, step=step)

    async def pause_point(self) -> None:
        """Stand still here while it is paused."""
        await self._ownership.steering.pause_point()

    async def signal(self, name: str, timeout_seconds: float | None = None, *, again: bool = False) -> Signal:
        """Wait for the next signal of that name; those that came before the call are given out first, each once.

        A signal that was given out is kept as such: no later attempt is given it. With ``again``, it is not, for a body
        that notes by itself what it has done about it. Raises TimeoutError (the time during which it is paused does not
        count), FenceStaleError and ExecutionClosedError when it is another's or has ended.
        """
        return await self._ownership.steering.signal(name, timeout_seconds, again=again)

    async def complete(self, result: Any = None) -> Cursor:
        """End it now, well."""
        return await self.append(COMPLETED, {"result": result})

    async def fail(self, reason: str, message: str, **details: Any) -> Cursor:
        """End it now, badly; ``reason`` is a word for programs, ``message`` a sentence for people."""
        return await self.append(FAILED, {"reason": reason, "message": message, **details})

    def end_in(self, seconds: float, timeout_seconds: float) -> None:
        """End it in ``execution.timed_out`` after so long, paused or not; its time counts from its submission."""
        self._ownership.end_in(seconds, Overrun(timeout_seconds, submitted=True))

    def stand_down(self) -> None:
        """Say that the body does nothing any more but hand back, when Redis answers."""
        self._ownership.body.stands_down = True

    async def hand_back(self, reason: str, **details: Any) -> None:
        """Leave it to a next attempt: ``execution.retrying``, and no ending when the block is left.

        Waits for ``left_calls`` first, because another may begin at once.
        Nothing can be emitted after that. Who is being cancelled hands nothing back: it ends when the block is left.
        """
        await self._ownership.hand_back(reason, details)

    async def __aenter__(self) -> Self:
        ownership = self._ownership
        tail = await self._open_tail()
        if self._claim is not None:
            await self._claim()
        await ownership.begin(tail)
        ownership.body.enter()
        if not ownership.steering.halted:
            ownership.deadline.run()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        ownership, was_cancelled = self._ownership, isinstance(error, asyncio.CancelledError)
        cancelled_by_others = ownership.body.leave()
        ownership.deadline.stop()
        try:
            lost = ownership.lease.lost
            if lost is None and ownership.doubted and not (ownership.ended or ownership.handed_back):
                lost = LeaseLostError(self.id, uncertain=True)
            if lost is not None:
                if cancelled_by_others and was_cancelled:
                    return False
                raise lost from error
            await self._owe(asyncio.ensure_future(self._end(error, cancelled=cancelled_by_others)))
        finally:
            await ownership.leave()
        stop = ownership.body.stop
        if isinstance(stop, Overrun) and was_cancelled and not cancelled_by_others:
            raise TimeoutError(f"execution {self.id}: {stop.sentence}") from error
        return False

    async def _owe(self, ending: asyncio.Future[None]) -> None:
        """Wait for the ending also when the body's task is being cancelled, even while it ends."""
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            await asyncio.wait([ending], timeout=ENDING_SECONDS)
            raise

    async def _end(self, error: BaseException | None, *, cancelled: bool) -> None:
        ownership = self._ownership
        await ownership.body.settle()
        if ownership.ended or ownership.handed_back:
            return
        stop = ownership.body.stop
        hurried = error is not None or stop is not None
        try:
            async with asyncio.timeout(ENDING_SECONDS if hurried else None):
                await ownership.append_ending(ending_of(error, stop, self.result, cancelled=cancelled))
        except (BusError, TimeoutError) as refusal:
            if not hurried:
                if isinstance(refusal, FenceStaleError):
                    raise LeaseLostError(self.id) from refusal
                raise
            # The body's own error is what the caller must see; a healer tells the viewers when the lease runs out.
            logger.exception("execution %s: its ending could not be appended: %s", self.id, refusal)  # noqa: TRY401 - the sentence, not only the trace
