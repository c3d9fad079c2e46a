"""``async for`` over an execution: replay, then live, gaps told, until the terminal event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from tailrace.bus.log.log import PAGE_ENTRIES, Log
from tailrace.bus.log.subscription import Subscription
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.entry import Entry, Gap
from tailrace.bus.model.lifecycle import Status
from tailrace.bus.tail.watch import Tail

# A reader that is behind by more than this owns nothing but its cursor: it reads on from the log.
MAX_BUFFERED: Final = 4 * PAGE_ENTRIES


async def follow(log: Log, tail: Tail, execution_id: str, after: Cursor) -> AsyncGenerator[Entry | Gap, None]:
    """Give exactly the log after a cursor, in order; end after the terminal event.

    Waits for as long as the execution takes, also for one that does not exist yet.
    Raises BusUnavailableError while replaying when Redis cannot be reached; once live it waits for its return.
    """
    position = Numbering.after(after)
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
        try:
            while batch := await live.take():
                for item in batch:
                    yield item
                position = live.taken
        finally:
            live.close()
        if live.error is not None:
            raise live.error
        if live.ended:
            return


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

    async def take(self) -> list[Entry | Gap]:
        """Wait for the next batch; nothing when there will be none."""
        if not self._items:
            if self.ended or self._overflowed or self.error:
                return []
            self._news.clear()
            await self._news.wait()
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
