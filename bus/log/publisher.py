"""From a step to the log, off the step's critical path.

``emit`` costs no round trip: it fills a bounded buffer. One append of the execution is under way at a time; what
arrives meanwhile goes into the next, so that batches grow with load and with Redis's latency by themselves. A batch
whose reply was lost is sent again under the same numbers, and the log drops what it has.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final, TypedDict

from tailrace.bus.errors import (
    BusClosedError,
    BusUnavailableError,
    ExecutionClosedError,
    PublishFailedError,
)
from tailrace.bus.log.log import Log
from tailrace.bus.log.outbox import Outbox, Pending
from tailrace.bus.model.codec import ts_of
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.event import TERMINAL_TYPES, Event
from tailrace.bus.redis.retrying import retry_unavailable

logger = logging.getLogger(__name__)

MAX_BUFFERED_EVENTS: Final = 10_000
MAX_BUFFERED_BYTES: Final = 16 * 1024 * 1024
# Longer than an outage that makes an owner stop: what it had said before is not lost with it.
GIVE_UP_AFTER_SECONDS: Final = 120.0
# Text of a language model is read, not measured: waiting this long makes one event of several tokens.
TOKEN_LINGER_SECONDS: Final = 0.02


class PublisherOptions(TypedDict, total=False):
    """What ``bus.publisher()`` and ``bus.execution()`` take as keywords; Publisher has the defaults.

    ``emit`` waits while ``max_buffered_events`` or ``max_buffered_bytes`` are buffered. An event waits for others for
    ``linger_seconds``, a token for ``token_linger_seconds``. Appends are retried for ``give_up_after_seconds``, then
    raise PublishFailedError. ``meta`` is added to every event, such as a ``traceparent``.
    """

    max_buffered_events: int
    max_buffered_bytes: int
    give_up_after_seconds: float
    linger_seconds: float
    token_linger_seconds: float
    meta: dict[str, Any] | None


class Publisher:
    """Appends one producer's events to one execution's log, in the order in which they were emitted."""

    def __init__(
        self,
        log: Log,
        execution_id: str,
        *,
        producer: str,
        fence: int | None = None,
        max_buffered_events: int = MAX_BUFFERED_EVENTS,
        max_buffered_bytes: int = MAX_BUFFERED_BYTES,
        give_up_after_seconds: float = GIVE_UP_AFTER_SECONDS,
        linger_seconds: float = 0.0,
        token_linger_seconds: float = TOKEN_LINGER_SECONDS,
        meta: dict[str, Any] | None = None,
    ) -> None:
        """``meta`` is what every event carries, beside its own, such as a ``traceparent``."""
        self.execution_id = execution_id
        self.producer = producer
        self.fence = fence
        self._log = log
        self._give_up_after_seconds = give_up_after_seconds
        self._linger_seconds = linger_seconds
        self._token_linger_seconds = token_linger_seconds
        self._outbox = Outbox(max_buffered_events, max_buffered_bytes, limit_bytes=log.max_event_bytes, meta=meta)
        self._seq = 1
        self._last: Cursor | None = None
        self._closing = False
        self._closes_log = False
        self._failure: Exception | None = None
        self._retrying = False
        self._work = asyncio.Event()
        self._urgent = asyncio.Event()
        # Set while there is room; waiting for it is how a full buffer slows its pipeline.
        self._room = asyncio.Event()
        self._room.set()
        self._queue = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()
        self._clock = _Clock()
        self._task: asyncio.Task[None] | None = None

    def tune(self, *, max_buffered_events: int | None = None, linger_seconds: float | None = None) -> None:
        """Change how much is buffered, and how long events wait for others, from now on; None changes nothing."""
        if max_buffered_events is not None:
            self._outbox.max_events = max_buffered_events
        if linger_seconds is not None:
            self._linger_seconds = linger_seconds

    async def emit(
        self,
        event_type: str,
        data: Any = None,
        *,
        step: str | None = None,
        meta: dict[str, Any] | None = None,
    ) -> None:
        """Buffer one event; waits only while the buffer is full.

        Raises InvalidEventError for what can never be appended, PublishFailedError or AppendRefusedError when earlier
        events could not be, BusClosedError after ``aclose``.
        """
        event = Event(event_type, data, step, None, meta)
        if not self._queue.locked() and self.offer(event):
            return
        # In turn: or who emits in a loop would take all the room each time, and an ending might never get any.
        async with self._queue:
            while not self.offer(event):
                self._log.counters.add("publish_waits")
                self._room.clear()
                await self._room.wait()

    def offer(self, event: Event) -> bool:
        """Buffer one event, or say False when there is no room. Raises as ``emit`` does."""
        if self._failure is not None:
            raise self._failure
        if self._closing:
            raise BusClosedError("this publisher is closed")
        if self._closes_log:
            raise ExecutionClosedError(self.execution_id, "under way")
        outbox = self._outbox
        if outbox.full:
            return False
        outbox.add(event, self._clock.ts())
        if event.type in TERMINAL_TYPES:
            self._closes_log = True
        self._idle.clear()
        self._work.set()
        # When the buffer is full, waiting for more events would only delay these.
        if self._outbox.full or (not outbox.only_tokens and not self._linger_seconds):
            self._urgent.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"publisher:{self.execution_id}")
        return True

    async def append(
        self,
        event_type: str,
        data: Any = None,
        *,
        step: str | None = None,
        meta: dict[str, Any] | None = None,
    ) -> Cursor:
        """Emit, and wait until it and all before it are in the log. Returns the last entry's cursor."""
        await self.emit(event_type, data, step=step, meta=meta)
        await self.flush()
        if self._last is None:
            raise PublishFailedError(self.execution_id, "nothing was appended", 1)
        return self._last

    async def flush(self) -> None:
        """Wait until everything emitted is in the log. Raises PublishFailedError, AppendRefusedError."""
        self._urgent.set()
        await self._idle.wait()
        if self._failure is not None:
            raise self._failure

    async def aclose(self) -> None:
        """Flush, then refuse further events. Raises as ``flush`` does."""
        self._closing = True
        try:
            await self.flush()
        finally:
            await self.abandon()

    async def abandon(self) -> None:
        """Stop at once; what is still buffered is counted as lost, and those who wait for it are told."""
        self._closing = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        lost = self._outbox.held_events
        if lost and self._failure is None:
            self._fail(PublishFailedError(self.execution_id, "the publisher was abandoned", lost))
        # The task that would wake those who wait is gone.
        self._room.set()
        self._idle.set()

    @property
    def closes_log(self) -> bool:
        """Whether a terminal event was taken: nothing can follow it."""
        return self._closes_log

    @property
    def backlogged(self) -> bool:
        """Whether ``emit`` has to wait although Redis answers: events come faster than it takes them."""
        return self._outbox.full and not self._retrying

    async def _run(self) -> None:
        outbox = self._outbox
        while True:
            await self._work.wait()
            await self._linger()
            self._work.clear()
            self._urgent.clear()
            while outbox.waiting:
                batch = outbox.take()
                try:
                    await self._append(batch)
                except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
                    self._fail(error)
                    return
                outbox.confirm(batch)
                if not outbox.full:
                    self._room.set()
            self._idle.set()

    async def _linger(self) -> None:
        only_tokens = self._outbox.only_tokens
        seconds = max(self._linger_seconds, self._token_linger_seconds if only_tokens else 0.0)
        if seconds and not self._urgent.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._urgent.wait()
            except TimeoutError:
                pass

    async def _append(self, batch: list[Pending]) -> None:
        """Append one batch, with as many attempts as ``give_up_after_seconds`` allows."""
        events = [pending.fields for pending in batch]
        retries = 0

        def note(error: BusUnavailableError) -> None:
            nonlocal retries
            if not retries:
                logger.warning("execution %s: append failed, retrying: %s", self.execution_id, error)
            retries += 1
            self._retrying = True
            self._log.counters.add("append_retries")

        try:
            appended = await retry_unavailable(
                lambda: self._log.append(
                    self.execution_id, events, producer=self.producer, seq=self._seq, fence=self.fence
                ),
                seconds=self._give_up_after_seconds,
                on_retry=note,
            )
        except BusUnavailableError as error:
            reason = f"{error} (after {retries + 1} attempts)" if retries else str(error)
            raise PublishFailedError(self.execution_id, reason, self._outbox.held_events) from error
        self._retrying = False
        if not retries and appended.written < len(batch):
            # Nothing was sent twice: these are another's numbers, and our events were dropped as repetitions.
            reason = f"another producer named {self.producer!r} has appended here; choose a unique name"
            raise PublishFailedError(self.execution_id, reason, self._outbox.held_events)
        self._seq += len(batch)
        self._last = appended.last

    def _fail(self, error: Exception) -> None:
        self._failure = error
        lost = self._outbox.held_events
        self._log.counters.add("publish_lost_events", lost)
        logger.error(
            "execution %s: %d events were lost, they could not be appended: %s", self.execution_id, lost, error
        )
        self._room.set()
        self._idle.set()


class _Clock:
    """The producer's time as text; the seconds are formatted once each."""

    __slots__ = ("_prefix", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._prefix = ""

    def ts(self) -> str:
        second, ns = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._prefix = ts_of(second * 1000)[:20]
        return f"{self._prefix}{ns // 1000:06d}Z"
