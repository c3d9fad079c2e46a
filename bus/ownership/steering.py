"""What is done about requests, on the owner's side.

A cancellation stops the body at its next await. A pause holds it where it next says something or asks whether to pause,
and is answered when it stands still. Signals are answered when they have arrived, and wait until the body asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from tailrace.bus.errors import (
    AppendRefusedError,
    BusClosedError,
    EventTooLargeError,
    PublishFailedError,
    TransitionRefusedError,
)
from tailrace.bus.log.publisher import Publisher
from tailrace.bus.model.control_request import ControlRequest, answer
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.event import PAUSE_REQUESTED, PAUSED, RESUME_REQUESTED, RESUMED, SIGNAL_REQUESTED, SIGNALLED
from tailrace.bus.ownership.deadline import ExecutionDeadline
from tailrace.bus.ownership.ending import ENDING_SECONDS
from tailrace.bus.ownership.signals import Signal, SignalInbox

logger = logging.getLogger(__name__)


class Steering:
    """Obeys one request after the other.

    ``new_publisher`` makes one for the answers: not the body's, because a refusal ends a publisher, and a pause may
    be refused when a cancellation is on its way. It must not give up: an answer is written when Redis takes writes
    again.
    ``flush`` waits until what the body has said is in the log. ``keep_given`` stores which signals the body was given.
    """

    def __init__(
        self,
        inbox: SignalInbox,
        *,
        new_publisher: Callable[[], Publisher],
        flush: Callable[[], Awaitable[None]],
        keep_given: Callable[[dict[str, str]], Awaitable[None]],
        cancel: Callable[[ControlRequest], None],
        clock: ExecutionDeadline,
        note_status: Callable[[str], None],
    ) -> None:
        """``cancel`` is called at once; the ``clock`` does not run while the body stands still."""
        self.cancel_request: ControlRequest | None = None
        self._inbox = inbox
        self._new_publisher = new_publisher
        self._publisher: Publisher | None = None
        self._flush = flush
        self._keep_given = keep_given
        self._cancel = cancel
        self._clock = clock
        self._note_status = note_status
        self._paused = False
        # Asked for, and not answered before the body stands still.
        self._pauses: list[ControlRequest] = []
        self._asked: deque[ControlRequest] = deque()
        self._standing = 0
        self._running = asyncio.Event()
        self._running.set()
        self._answered: Collection[str] = ()
        self._acting: asyncio.Task[None] | None = None
        self._begun = False
        self._ending = False

    @property
    def halted(self) -> bool:
        """Whether the body is to stand still where it can."""
        return not self._running.is_set()

    @property
    def asked(self) -> list[ControlRequest]:
        """What is still to be looked at."""
        return list(self._asked)

    def take(self, request: ControlRequest) -> None:
        if request.cancels:
            if self.cancel_request is None:
                self.cancel_request = request
                self.release()
                self._cancel(request)
        elif not self._ending or request.type == SIGNAL_REQUESTED:
            self._asked.append(request)
            self._act_soon()

    def stand_still(self) -> None:
        """It was found paused."""
        self._paused = True
        self._running.clear()

    def begin(self, answered: Collection[str], given: Mapping[str, Cursor]) -> None:
        """Obey from now on. Requests that an earlier attempt has ``answered`` are not answered again.

        Signals that it was ``given`` are not given out again; these are the last of each name.
        """
        self._answered = answered
        self._inbox.given = dict(given)
        self._begun = True
        self._act_soon()

    def release(self) -> None:
        """It is to end: that ends each pause, and answers each request to pause or resume."""
        self._ending = True
        self._pauses.clear()
        for request in [each for each in self._asked if each.type != SIGNAL_REQUESTED]:
            self._asked.remove(request)
        self._running.set()
        self._inbox.wake()

    async def settle(self) -> None:
        """Wait until all is answered that can be, before the ending, which need not wait for ever."""
        self.release()
        if self._acting is not None:
            await asyncio.wait([self._acting], timeout=ENDING_SECONDS)

    async def pause_point(self) -> None:
        """Stand still for as long as it is paused."""
        while self.halted:
            self._standing += 1
            self._act_soon()
            try:
                await self._running.wait()
            finally:
                self._standing -= 1

    async def signal(self, name: str, timeout_seconds: float | None, *, again: bool) -> Signal:
        """``again``: a next attempt is given it, too. Raises TimeoutError, and as ``keep_given`` does.

        The time during which it is paused does not count.
        """
        signal = await self._next_signal(name, timeout_seconds)
        if not again:
            try:
                await self._keep_given(self._inbox.note_given(signal))
            except BaseException:
                # At most the next attempt goes without it; this one may ask again.
                self._inbox.put_back(signal)
                raise
        return signal

    async def _next_signal(self, name: str, timeout_seconds: float | None) -> Signal:
        loop = asyncio.get_running_loop()
        left = timeout_seconds
        while True:
            await self.pause_point()
            if (signal := self._inbox.take(name)) is not None:
                return signal
            since = loop.time()
            async with asyncio.timeout(left):
                await self._inbox.wait()
            if left is not None:
                left -= loop.time() - since

    async def aclose(self) -> None:
        self._begun = False
        if self._acting is not None:
            self._acting.cancel()
            await asyncio.wait([self._acting])
        if self._publisher is not None:
            await self._publisher.abandon()

    def _act_soon(self) -> None:
        if self._acting is None and self._to_do():
            self._acting = asyncio.create_task(self._act(), name="steering")

    def _to_do(self) -> bool:
        return self._begun and bool(self._asked or (self._pauses and self._standing))

    async def _act(self) -> None:
        try:
            while self._to_do():
                if self._asked:
                    await self._obey(self._asked.popleft())
                else:
                    await self._pause()
        except (AppendRefusedError, BusClosedError, PublishFailedError) as error:
            # The body hears of it when it says its next word; what is not answered here, a next attempt answers.
            logger.warning("control requests are no longer answered: %s", error)
            self._begun = False
            self.release()
        finally:
            self._acting = None

    async def _obey(self, request: ControlRequest) -> None:
        if request.id in self._answered:
            if request.type == SIGNAL_REQUESTED:
                self._inbox.put(request)
        elif request.type == PAUSE_REQUESTED and not self._paused:
            self._pauses.append(request)
            self._running.clear()
            # Who waits for a signal stands still as well.
            self._inbox.wake()
        elif request.type == PAUSE_REQUESTED:
            await self._answer(PAUSED, request)
        elif request.type == RESUME_REQUESTED:
            await self._resume(request)
        else:
            await self._answer(SIGNALLED, request, name=request.name)
            self._inbox.put(request)

    async def _pause(self) -> None:
        # What the body said before it stood still comes before the word that it does.
        await self._flush()
        await self._tell_paused()
        if not self._paused:
            # Refused: it is being cancelled, of which we shall hear.
            self._running.set()

    async def _tell_paused(self) -> None:
        while self._pauses:
            if await self._answer(PAUSED, self._pauses.pop(0)):
                self._paused = True
                self._note_status("paused")
                self._clock.hold()

    async def _resume(self, request: ControlRequest) -> None:
        await self._tell_paused()
        await self._answer(RESUMED, request)
        self._paused = False
        self._note_status("running")
        self._clock.run()
        self._running.set()

    async def _answer(self, event_type: str, request: ControlRequest, **more: Any) -> bool:
        """Whether it is so, and stands in the log. Raises as Publisher.append does, but for what the status forbids."""
        if self._publisher is None:
            self._publisher = self._new_publisher()
        try:
            try:
                await self._publisher.append(event_type, answer(request, **more))
            except EventTooLargeError:
                # Events may be as small as 256 bytes; which request it answers must fit into any.
                await self._publisher.append(event_type, {"request": request.id})
        except TransitionRefusedError as error:
            logger.info("%s", error)
            publisher, self._publisher = self._publisher, None
            await publisher.abandon()
            return False
        return True
