"""A run, as whoever runs it sees it: lease, fence, steering and ending around any piece of code."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, NoReturn, Self

from bus.body import Body
from bus.cursor import Cursor
from bus.deadline import Deadline
from bus.ending import ENDING_SECONDS, Ending, Overrun, Stop, append_ending, ending_of, stopped
from bus.ending import failure_of as failure_of  # noqa: PLC0414 - part of what this module offers
from bus.errors import (
    BusError,
    BusUnavailableError,
    ExecutionClosedError,
    FenceStaleError,
    LeaseLostError,
    TransitionRefusedError,
)
from bus.event import COMPLETED, FAILED, RETRYING, STARTED, TERMINAL_TYPES
from bus.heartbeat import Beat, Heartbeat
from bus.inbox import Inbox, Signal
from bus.lease import Lease, Leases, Renewed
from bus.line import Commands
from bus.log import Log
from bus.publisher import Publisher
from bus.request import GRACE_SECONDS, LOST_REQUEST, Request
from bus.requests import Requests
from bus.steering import Steering
from bus.tail.watch import Tail

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
        open_tail: Callable[[], Awaitable[Tail]],
        execution_id: str,
        *,
        owner: str,
        pipeline: str | None,
        max_attempts: int | None,
        timeout_seconds: float | None,
        publisher: dict[str, Any],
    ) -> None:
        self.id = execution_id
        self.result: Any = None
        self.pipeline = pipeline
        # Set when it was ended over a body that does not stop: whoever waits for that body need not.
        self.abandoned = asyncio.Event()
        self._log = log
        self._leases = leases
        self._heartbeat = heartbeat
        self._open_tail = open_tail
        self._owner = owner
        self._max_attempts = max_attempts
        self._timeout_seconds = timeout_seconds
        self._publisher_options = publisher
        self._publisher: Publisher | None = None
        self._words = 0
        self._lease: Lease | None = None
        self._beat: Beat | None = None
        self._body = Body()
        self._deadline = Deadline(timeout_seconds, self._time_out)
        self._steering = Steering(
            Inbox(execution_id, log.counters),
            words=self._new_words,
            flush=self._flush,
            cancel=self._cancel,
            clock=self._deadline,
        )
        self._requests = Requests(
            commands,
            log.keys,
            execution_id,
            self._steering.take,
            counters=log.counters,
            limit_bytes=log.max_event_bytes,
        )
        self._stop: Stop | None = None
        self._forcing: asyncio.Task[None] | None = None
        self._lost: BusError | None = None
        self._ended = False
        self._handed_back = False
        self._unheard = 0

    @property
    def publisher(self) -> Publisher:
        if self._publisher is None:
            raise RuntimeError("the execution has not been entered: use 'async with'")
        return self._publisher

    @property
    def attempt(self) -> int:
        """1 for the first who ran it, rising with every take-over."""
        return self._lease.attempt if self._lease is not None else 0

    @property
    def fence(self) -> int:
        """Risen with every taking: what we write counts while no other has a higher one."""
        return self._lease.fence if self._lease is not None else 0

    @property
    def cancel_request(self) -> Request | None:
        """Who asked to cancel it, and why, once somebody has."""
        return self._steering.cancel_request

    async def emit(
        self,
        event_type: str,
        data: Any = None,
        *,
        step: str | None = None,
        meta: dict[str, Any] | None = None,
    ) -> None:
        """Buffer one event, off the critical path, where it is not paused. See Publisher.emit."""
        if self._steering.halted and event_type not in TERMINAL_TYPES:
            await self._steering.pause_point()
        await self.publisher.emit(event_type, data, step=step, meta=meta)

    async def append(self, event_type: str, data: Any = None, *, step: str | None = None) -> Cursor:
        """Emit one event and wait until it is in the log."""
        if self._steering.halted and event_type not in TERMINAL_TYPES:
            await self._steering.pause_point()
        return await self.publisher.append(event_type, data, step=step)

    async def pause_point(self) -> None:
        """Stand still here while it is paused."""
        await self._steering.pause_point()

    async def signal(self, name: str, timeout_seconds: float | None = None) -> Signal:
        """Wait for the next signal of that name; those that came before the call are given out first, each once.

        An attempt that takes over is given all signals of the execution again, also those that an earlier one was
        given. Raises TimeoutError; the time during which it is paused does not count.
        """
        return await self._steering.signal(name, timeout_seconds)

    async def complete(self, result: Any = None) -> Cursor:
        """End it now, well."""
        return await self.append(COMPLETED, {"result": result})

    async def fail(self, reason: str, message: str, **details: Any) -> Cursor:
        """End it now, badly; ``reason`` is a word for programs, ``message`` a sentence for people."""
        return await self.append(FAILED, {"reason": reason, "message": message, **details})

    async def hand_back(self, reason: str, **details: Any) -> None:
        """Leave it to a next attempt: ``execution.retrying``, and no ending when the block is left.

        Nothing can be emitted after that. Who is being cancelled hands nothing back: it ends when the block is left.
        """
        await self.publisher.aclose()
        words = self._new_words()
        try:
            await words.append(RETRYING, {"attempt": self.attempt + 1, "reason": reason, **details})
            self._handed_back = True
        except TransitionRefusedError as refusal:
            await self._find_cancellation(refusal)
        finally:
            await words.abandon()

    async def __aenter__(self) -> Self:
        tail = await self._open_tail()
        self._lease = lease = await self._leases.take(
            self.id, self._owner, self.pipeline, max_attempts=self._max_attempts
        )
        self._publisher = self._new_publisher("body", **self._publisher_options)
        self._beat = self._heartbeat.keep(lease, self._renewed, self._lose)
        try:
            await self._begin(lease)
            self._requests.watch(tail)
        except BaseException:
            await self._leave()
            raise
        self._body.enter()
        try:
            await self.pause_point()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        self._deadline.run()
        return self

    async def _begin(self, lease: Lease) -> None:
        """Raises ExecutionClosedError when it was to be cancelled, and now is."""
        steering = self._steering
        if lease.status == "paused":
            steering.stand_still()
        if lease.status == "cancelling":
            await self._requests.read()
            await self._end_at_once()
        if lease.status in {"running", "paused"} and not lease.waited:
            # Whoever ran it is gone: its attempt ends here, ours begins.
            await self.publisher.emit(RETRYING, {"attempt": lease.attempt, "reason": "worker_lost"})
        pipeline = {} if self.pipeline is None else {"pipeline": self.pipeline}
        await self.publisher.emit(STARTED, {"attempt": lease.attempt, "owner": self._owner, **pipeline})
        await self._requests.read()
        try:
            await self.publisher.flush()
        except TransitionRefusedError as refusal:
            await self._find_cancellation(refusal)
        if self._stop is not None:
            await self._end_at_once()
        answered = await self._requests.answered(steering.asked) if lease.attempt > 1 else ()
        steering.begin(answered)

    async def _find_cancellation(self, refusal: TransitionRefusedError) -> None:
        """Nothing goes on in what was told to cancel. Raises any other refusal."""
        if refusal.status != "cancelling":
            raise refusal
        await self._requests.read()
        self._stop = self._stop or LOST_REQUEST

    async def _end_at_once(self) -> NoReturn:
        words = self._new_words()
        try:
            cursor = await append_ending(words, stopped(self._stop or LOST_REQUEST), self._new_words)
            self._ended = True
        finally:
            await words.abandon()
        raise ExecutionClosedError(self.id, str(cursor))

    def _new_words(self) -> Publisher:
        """Make a publisher for what is said beside the body."""
        self._words += 1
        return self._new_publisher(f"words{self._words}", give_up_after_seconds=ENDING_SECONDS)

    def _new_publisher(self, part: str, **options: Any) -> Publisher:
        # One producer an attempt and part: numbers of a predecessor never meet ours.
        return Publisher(self._log, self.id, producer=f"{self._owner}.{self.fence}.{part}", fence=self.fence, **options)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        cancelled_by_others = self._body.leave()
        self._deadline.stop()
        try:
            if self._lost is not None:
                if cancelled_by_others and isinstance(error, asyncio.CancelledError):
                    return False
                raise self._lost from error
            await self._owe(asyncio.ensure_future(self._end(error)))
        finally:
            await self._leave()
        if isinstance(self._stop, Overrun) and isinstance(error, asyncio.CancelledError) and not cancelled_by_others:
            raise TimeoutError(f"execution {self.id} ran longer than {self._stop.timeout_seconds:g} s") from error
        return False

    async def _owe(self, ending: asyncio.Future[None]) -> None:
        """Wait for the ending also when the body's task is being cancelled, even while it ends."""
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            await asyncio.wait([ending], timeout=ENDING_SECONDS)
            raise

    async def _end(self, error: BaseException | None) -> None:
        if self._forcing is not None:
            await asyncio.wait([self._forcing])
        if self._ended or self._handed_back:
            return
        hurried = error is not None or self._stop is not None
        try:
            async with asyncio.timeout(ENDING_SECONDS if hurried else None):
                await self._append(ending_of(error, self._stop, self.result))
        except (BusError, TimeoutError) as refusal:
            if not hurried:
                if isinstance(refusal, FenceStaleError):
                    raise LeaseLostError(self.id) from refusal
                raise
            # The body's own error is what the caller must see; a healer tells the viewers when the lease runs out.
            logger.exception("execution %s: its ending could not be appended: %s", self.id, refusal)  # noqa: TRY401 - the sentence, not only the trace

    async def _append(self, ending: Ending) -> None:
        await self._steering.settle()
        if self.publisher.closes_log:
            # The body has said it itself.
            await self.publisher.flush()
        else:
            await append_ending(self.publisher, ending, self._new_words)
        self._ended = True

    async def _leave(self) -> None:
        if self._beat is not None:
            self._beat.stop()
        self._requests.close()
        await self._steering.aclose()
        await self.publisher.abandon()
        if self._lease is not None and self._lost is None and not self._ended:
            try:
                await self._leases.release(self._lease)
            except (BusUnavailableError, LeaseLostError) as error:
                logger.debug("execution %s: lease not released: %s", self.id, error)

    # What happens to it from outside, between two turns of the loop.

    def _cancel(self, request: Request) -> None:
        self._stop_body(request, request.grace_seconds)

    def _time_out(self) -> None:
        if self._timeout_seconds is not None:
            self._stop_body(Overrun(self._timeout_seconds), GRACE_SECONDS)

    async def _flush(self) -> None:
        await self.publisher.flush()

    def _stop_body(self, stop: Stop, grace_seconds: float) -> None:
        if self._stop is None and self._lost is None:
            self._stop = stop
            self._steering.release()
            self._body.cancel("the execution is to end")
            self._body.expect_out(grace_seconds, self._force)

    def _force(self) -> None:
        self._forcing = asyncio.create_task(self._end_by_force(), name=f"force:{self.id}")

    async def _end_by_force(self) -> None:
        try:
            async with asyncio.timeout(ENDING_SECONDS):
                await self._append(stopped(self._stop or LOST_REQUEST, forced=True))
        except (BusError, TimeoutError) as refusal:
            logger.error("execution %s: it could not be ended by force: %s; a healer will", self.id, refusal)  # noqa: TRY400 - no trace helps
            return
        self._log.counters.add("bodies_abandoned")
        logger.error("execution %s: its body does not stop; ended without it", self.id)
        if self._beat is not None:
            self._beat.stop()
        self.abandoned.set()
        # It may have taken no notice only once; what it says from now on is refused.
        self._body.cancel("the execution has ended")

    def _renewed(self, renewed: Renewed) -> None:
        if renewed.status != "cancelling" or self._stop is not None:
            return
        self._unheard += 1
        if self._unheard == 1:
            self._requests.look_again()
        else:
            # The request itself is gone; that there was one is certain.
            self._cancel(LOST_REQUEST)

    def _lose(self, error: BusError) -> None:
        if self._ended or self._handed_back or self.publisher.closes_log:
            return
        self._lost = error
        self._log.counters.add("leases_lost")
        logger.error("execution %s: %s; stopping", self.id, error)
        self._steering.release()
        self._body.cancel("the lease is lost")
