"""A page of a log as one JSON document."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import orjson

from tailrace.bus.log.log import Log
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import Cursor, from_id
from tailrace.bus.model.entry import Entry, Gap
from tailrace.bus.model.filter import Filter
from tailrace.bus.model.reading import Page
from tailrace.bus.redis.script import Script

# Entries may have 256 KiB each: a large page is read in bites, so that its bound in bytes means something.
_BITE_ENTRIES: Final = 64
# The work of one page is bounded, however few entries there are of what it looks for.
_MAX_PASSED_OVER: Final = 1000


async def collect(
    log: Log, execution_id: str, after: Cursor, limit: int, max_bytes: int, *, wanted: Filter | None = None
) -> PageDocument:
    """Read one page of what is wanted. Raises BusUnavailableError."""
    document = PageDocument(execution_id, after, limit, max_bytes, wanted)
    page = await log.read(execution_id, Numbering.after(after), min(limit, _BITE_ENTRIES))
    while document.take(page):
        page = await log.read(execution_id, page.position, min(document.missing, _BITE_ENTRIES))
    return document


async def before_newest(log: Log, execution_id: str, count: int) -> Cursor:
    """The cursor after which there are the newest ``count`` entries; the start for a log that has no more.

    Raises BusUnavailableError, ReplyError when the key is no log.
    """
    state = await log.state(execution_id)
    # What other programs wrote behind the ending is no part of the log.
    end = "+" if state is None or state.terminal is None else str(state.terminal)
    return from_id(await _newest().run(log.commands, (log.keys.log(execution_id),), count, end))


@lru_cache(maxsize=1)
def _newest() -> Script:
    return Script.load("newest")


class PageDocument:
    """Collects bites of a log until the page is full. Pure.

    A page has at most one gap, before its items; another one begins the next page.
    """

    def __init__(
        self, execution_id: str, after: Cursor, limit: int, max_bytes: int, wanted: Filter | None = None
    ) -> None:
        self.next = after
        self.ended = False
        self._execution_id = execution_id
        self._limit = limit
        self._max_bytes = max_bytes
        self._wanted = wanted
        self._passed_over = 0
        self._gap: Gap | None = None
        self._items: list[bytes] = []
        self._size = 0
        self._more = False

    @property
    def missing(self) -> int:
        return self._limit - len(self._items)

    @property
    def has_no_news(self) -> bool:
        return not (self._items or self._more or self.ended) and self._gap is None

    def take(self, page: Page) -> bool:
        """Add what fits; True when the page has room for what follows."""
        self._more, self.ended = page.more, page.ended
        for item in page.items:
            if not self._add(item):
                self._more, self.ended = True, False
                return False
        self.next = page.position.cursor
        is_full = self.missing <= 0 or self._size >= self._max_bytes or self._passed_over >= _MAX_PASSED_OVER
        return page.more and not is_full

    def render(self, links: dict[str, Any] | None = None) -> bytes:
        rest: dict[str, Any] = {"next": str(self.next), "more": self._more, "ended": self.ended}
        if self._gap is not None:
            rest = {"gap": self._gap.members(), **rest}
        if links is not None:
            rest["links"] = links
        return b'{"items":[' + b",".join(self._items) + b"]," + orjson.dumps(rest)[1:]

    def _add(self, item: Entry | Gap) -> bool:
        if isinstance(item, Gap):
            if self._gap is not None or self._items:
                return False
            self._gap = item
            return True
        if self.missing <= 0 or self._size >= self._max_bytes or self._passed_over >= _MAX_PASSED_OVER:
            return False
        if self._wanted is not None and not self._wanted.wants(item):
            self._passed_over += 1
            self.next = item.cursor
            return True
        rendered = item.json(self._execution_id)
        self._items.append(rendered)
        self._size += len(rendered)
        self.next = item.cursor
        return True
