"""``async for`` over an execution: replay, then live, gaps told, until the terminal event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from tailrace.bus.errors import ExecutionUnknownError
from tailrace.bus.log.log import PAGE_ENTRIES, Log
from tailrace.bus.log.subscription import Subscription
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.entry import Entry, Gap
from tailrace.bus.model.lifecycle import Status
from tailrace.bus.tail.watch import Tail

# A reader that is behind by more than this owns nothing but its cursor: it reads on from the log.
MAX_BUFFERED: Final = 4 * PAGE_ENTRIES


async def follow(
    log: Log,
    tail: Tail,
    execution_id: str,
    after: Cursor,
    *,
    heartbeat_seconds: float | None = None,
    wait: float | None = None,
) -> AsyncGenerator[Entry | Gap | None, None]:
    """Give exactly the log after a cursor, in order; end after the terminal event.

    None stands for ``heartbeat_seconds`` without an item. An execution that does not exist is waited for, with ``wait``
    for so many seconds. Raises ExecutionUnknownError after these; BusUnavailableError while replaying when Redis cannot
    be reached; once live it waits for its return.
    """
    now = asyncio.get_running_loop().time
    position = Numbering.after(after)
    begins_by = None if wait is None else now() + wait
    while True:
        page = await log.read(execution_id, position)
        for item in page.items:
            yield item
        if page.ended:
            return
        position = page.position
        if page.more:
            continue
        live = _Live(log, tail, execution_id, position)
        beats_at = None if heartbeat_seconds is None else now() + heartbeat_seconds
        try:
            if begins_by is not None and (page.items or await log.exists(execution_id)):
                begins_by = None
            while (batch := await live.take(_earlier(begins_by, beats_at))) != []:
                for item in batch or ():
                    yield item
                if batch is not None:
                    begins_by = None
                    position = live.taken
                elif begins_by is not None and now() >= begins_by:
                    if not await log.exists(execution_id):
                        raise ExecutionUnknownError(execution_id)
                    begins_by = None
                elif beats_at is not None and now() >= beats_at:
                    yield None
                beats_at = None if heartbeat_seconds is None else now() + heartbeat_seconds
        finally:
            live.close()
        if live.error is not None:
            raise live.error
        if live.ended:
            return


def _earlier(*times: float | None) -> float | None:
    return min((time for time in times if time is not None), default=None)


class _Live:
    """Buffers what the subscription gives between two turns of the reader; bounded, overflow is the log itself."""

    def __init__(self, log: Log, tail: Tail, execution_id: str, position: Numbering) -> None:
        self._items: list[Entry | Gap] = []
        self._news = asyncio.Event()
        self._overflowed = False
        self.taken = position
        self.ended = False
        self.error: Exception | None = None
        self._subscription = Subscription(log, tail, execution_id, position.copy(), self)

    async def take(self, until: float | None = None) -> list[Entry | Gap] | None:
        """Wait for the next batch; an empty one when there will be none, None when the time has come before it."""
        if not self._items:
            if self.ended or self._overflowed or self.error:
                return []
            self._news.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._news.wait()
            except TimeoutError:
                return None
        items, self._items = self._items, []
        if items and not self._overflowed:
            self.taken = self._subscription.position.copy()
        return items

    def close(self) -> None:
        self._subscription.close()

    def news(self, items: Sequence[Entry | Gap]) -> None:
        if len(self._items) + len(items) > MAX_BUFFERED:
            # What was not taken yet is read again from the log, from where the reader stands.
            self._overflowed = True
            self._items = []
            self._subscription.close()
        else:
            self._items.extend(items)
        self._news.set()

    def end(self, status: Status) -> None:
        del status  # the terminal entry says it
        self.ended = True
        self._news.set()

    def fail(self, error: Exception) -> None:
        self.error = error
        self._news.set()
