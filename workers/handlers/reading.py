"""One execution, being read by a group: from the bookmark to its end, one event after the other."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from tailrace.bus.activity.bookmark import Opened
from tailrace.bus.bus import Bus
from tailrace.bus.errors import BusClosedError, BusUnavailableError, ReplyError
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.entry import Entry, Gap
from tailrace.bus.model.retry import Backoff
from tailrace.workers.handlers.delivery import Delivery

logger = logging.getLogger(__name__)


class Reading:
    """``position`` is what has been handled; ``saved`` what is noted of it; ``ended`` that nothing is left to read.

    ``is_gone`` says that there is no such execution any more, as far as Redis knows.

    ``entry_ids`` are the changes of the activity that stand for it.
    """

    def __init__(
        self, bus: Bus, execution_id: str, opened: Opened, handle: Callable[[Delivery], Awaitable[None]], entry_id: str
    ) -> None:
        self.execution_id = execution_id
        self.position = opened.cursor
        self.saved = opened.cursor
        self.entry_ids = {entry_id}
        self.ended = False
        self.is_gone = False
        self._bus = bus
        self._handle = handle
        self._torn = opened.torn
        self._doubtful_until: Cursor | None = None
        self._stopped = False
        # Since when there has been nothing to handle; None while something is.
        self._idle_since: float | None = 0.0
        self.task = asyncio.create_task(self._read(), name=f"reading:{execution_id}")

    def stop(self) -> None:
        """Let what is being handled end, and go no further."""
        self._stopped = True
        if self._idle_since is not None:
            self.task.cancel()

    def idle_seconds(self, now: float) -> float:
        return 0.0 if self._idle_since is None else now - self._idle_since

    def gone(self) -> None:
        """There is no such execution any more."""
        if self._idle_since is not None:
            self._bus.counters.add("handler_executions_gone")
            self.ended = self.is_gone = True
            self.task.cancel()

    async def _read(self) -> None:
        backoff, attempt = Backoff(), 0
        while not (self.ended or self._stopped):
            self._rest()
            try:
                if not await self._bus.log.exists(self.execution_id):
                    self.gone()
                    return
                if self._torn:
                    # What comes after the present head cannot have been handled before.
                    self._doubtful_until = await self._bus.log.latest(self.execution_id)
                    self._torn = False
                attempt = 0
                await self._follow()
            except BusClosedError:
                return
            except BusUnavailableError as error:
                if isinstance(error, ReplyError) and error.is_of_the_key:
                    logger.error("execution %s cannot be read: %s", self.execution_id, error)  # noqa: TRY400 - no trace helps
                    self.ended = True
                    return
                attempt += 1
                await asyncio.sleep(backoff.delay_seconds(attempt, random.random))

    async def _follow(self) -> None:
        async with aclosing(self._bus.follow(self.execution_id, self.position)) as items:
            async for item in items:
                self._idle_since = None
                await self._one(item)
                self._rest()
                if self._stopped:
                    return
        self.ended = True

    async def _one(self, item: Entry | Gap) -> None:
        at = item.cursor if isinstance(item, Entry) else None
        repeated = at is not None and self._doubtful_until is not None and at <= self._doubtful_until
        await self._handle(Delivery.of(self.execution_id, item, repeated=repeated))
        if isinstance(item, Entry):
            self.position = item.cursor
            self.ended = item.is_terminal

    def _rest(self) -> None:
        self._idle_since = asyncio.get_running_loop().time()
