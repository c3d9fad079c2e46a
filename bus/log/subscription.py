"""One reader's live view of one log: exactly what follows its cursor, gaps told, one ending.

There is one fast way and one careful way. Batches that the Tail delivers and that continue the numbering without
question are passed on as they are. Everything else (a reconnect, a flush, a jump in the numbering, an entry that claims
to end the execution, a change with nothing new, silence) takes the careful way: suspend the watch, read on from the
cursor with proof, resume.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from tailrace.bus.errors import BusClosedError, BusUnavailableError, ReplyError
from tailrace.bus.log.log import PAGE_ENTRIES, Log
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.entry import Entry, Gap
from tailrace.bus.model.lifecycle import Status
from tailrace.bus.model.reading import Page, RawEntry, read_plain
from tailrace.bus.model.retry import Backoff
from tailrace.bus.tail.watch import Tail, Watch

logger = logging.getLogger(__name__)

# After this time without traffic the log is checked: it may have ended, been deleted or been rewound.
STALE_SECONDS: Final = 15.0
# A page of a backlog: so many entries while it is not known how large they are, and then about so many bytes.
FIRST_ENTRIES: Final = 32
PAGE_BYTES: Final = 1024 * 1024


# Takes entries from the beginning of a batch as Redis sent it, moves the position on, and gives how many it took.
TakeBare = Callable[[Numbering, Sequence[RawEntry], int], int]


class Reader(Protocol):
    """Receives what follows. Called one at a time, in order; must not block."""

    def news(self, items: Sequence[Entry | Gap]) -> None:
        """Take entries and gaps, in order."""

    def end(self, status: Status) -> None:
        """The terminal entry was the last of the news, or there is nothing left to read. Called once, the last."""

    def fail(self, error: Exception) -> None:
        """Called once instead of ``end`` when this log can never be read (its key is not a stream), or not any more.

        The latter is so when the bus was closed.
        """


def next_count(count: int, page: Page) -> int:
    """How many entries to ask for after a page that was asked for with ``count``."""
    size = sum(len(item.raw_data) for item in page.items if isinstance(item, Entry))
    if size > PAGE_BYTES:
        return max(1, len(page.items) * PAGE_BYTES // size)
    return min(PAGE_ENTRIES, count * 2) if size * 2 <= PAGE_BYTES else count


class Subscription:
    __slots__ = (
        "_bare",
        "_closed",
        "_execution_id",
        "_heard",
        "_last_news",
        "_log",
        "_loop",
        "_position",
        "_proof",
        "_reader",
        "_stale_seconds",
        "_stale_timer",
        "_watch",
    )

    def __init__(
        self,
        log: Log,
        tail: Tail,
        execution_id: str,
        position: Numbering,
        reader: Reader,
        *,
        stale_seconds: float = STALE_SECONDS,
        timed: bool = True,
        bare: TakeBare | None = None,
    ) -> None:
        """Follow from a proved position on. Must be made inside a running loop.

        ``bare`` is offered each batch before it is decoded for the reader; what it does not take goes the usual way.

        An owner of thousands keeps one timer for all: then ``timed`` is False, and it calls ``check_stale`` often.
        """
        self._log = log
        self._execution_id = execution_id
        self._position = position
        self._reader = reader
        self._stale_seconds = stale_seconds
        self._loop = asyncio.get_running_loop()
        self._bare = bare
        # News since ``_last_news``; the clock is looked at when somebody asks how long ago that was.
        self._heard = False
        self._last_news = self._loop.time()
        self._proof: asyncio.Task[None] | None = None
        self._closed = False
        self._watch: Watch = tail.watch(log.keys.log(execution_id), position.cursor, self)
        self._stale_timer: asyncio.TimerHandle | None = None
        if timed:
            self._stale_timer = self._loop.call_later(stale_seconds * (0.8 + 0.4 * random.random()), self._tick)

    @property
    def position(self) -> Numbering:
        return self._position

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._watch.close()
        if self._stale_timer is not None:
            self._stale_timer.cancel()
        if self._proof is not None:
            self._proof.cancel()

    # bus.tail.watch.Listener

    def deliver(self, entries: Sequence[RawEntry]) -> None:
        if self._closed or self._proof is not None:
            return
        limit_bytes = self._log.max_event_bytes
        if self._bare is not None:
            taken = self._bare(self._position, entries, limit_bytes)
            if taken:
                self._heard = True
                if taken == len(entries):
                    return
                entries = entries[taken:]
        items = read_plain(self._position, entries, limit_bytes) if entries else None
        if items is None:
            self._prove()
        else:
            self._heard = True
            self._reader.news(items)

    def disturbed(self, reason: str) -> None:
        del reason  # told once by the Tail, for all
        self._prove()

    def check_stale(self, now: float) -> bool:
        """Check the log if there were no entries for ``stale_seconds``; returns whether it does."""
        if self._heard:
            self._heard = False
            self._last_news = now
        if now - self._last_news < self._stale_seconds or self._closed:
            return False
        self._last_news = now
        self._prove()
        return True

    def _tick(self) -> None:
        now = self._loop.time()
        self.check_stale(now)
        if not self._closed:
            self._stale_timer = self._loop.call_later(self._last_news + self._stale_seconds - now, self._tick)

    def _prove(self) -> None:
        self._watch.suspend()
        if self._proof is None and not self._closed:
            self._proof = self._loop.create_task(self._read_on(), name=f"proof:{self._execution_id}")

    async def _read_on(self) -> None:
        backoff, attempt = Backoff(), 0
        count = FIRST_ENTRIES
        while True:
            try:
                page = await self._log.read(self._execution_id, self._position, count)
            except BusClosedError as error:
                self._fail(error)
                return
            except ReplyError as error:
                if error.is_of_the_key:
                    self._fail(error)
                    return
                attempt += 1
            except BusUnavailableError:
                attempt += 1
            else:
                attempt = 0
                count = next_count(count, page)
                self._position = page.position
                if page.items:
                    self._heard = True
                    self._reader.news(page.items)
                if self._closed:
                    # The reader closed us while taking these: for it, nothing has ended.
                    return
                if page.ended:
                    self._proof = None
                    self.close()
                    self._reader.end(page.status)
                    return
                if not page.more:
                    self._proof = None
                    self._watch.resume(self._position.cursor)
                    return
                continue
            await asyncio.sleep(backoff.delay_seconds(attempt, random.random))

    def _fail(self, error: Exception) -> None:
        self._proof = None
        self.close()
        self._reader.fail(error)
