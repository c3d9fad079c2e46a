"""Pages of logs, read and rendered once for all who replay the same stretch."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from bus.continuity import Numbering
from bus.cursor import Cursor
from bus.entry import Entry, Gap
from bus.log import Log
from bus.reading import Page
from gateway.hub.filter import Filter
from gateway.render import Format, gap_payload

PAGE_ENTRIES: Final = 256
# What one write carries at most, if it is not a single event: a socket that is full holds no more than that.
PAGE_BYTES: Final = 256 * 1024
# How many entries make PAGE_BYTES is known after the first page of an execution; until then, not so many.
FIRST_PAGE_ENTRIES: Final = 64
MAX_COUNTS: Final = 4096
# Viewers that lost one gateway come back within seconds of each other, from cursors close to each other.
KEEP_SECONDS: Final = 5.0
MAX_BYTES: Final = 64 * 1024 * 1024
# So many renderings of a page are kept beside it.
MAX_RENDERINGS: Final = 2
_OVERHEAD_BYTES: Final = 400


class RenderedPage:
    """A page and its frames, one rendering per kind of viewer."""

    def __init__(self, execution_id: str, page: Page, read_at: float) -> None:
        self.position = page.position
        self.more = page.more
        self.ended = page.ended
        self.read_at = read_at
        self.entries = sum(isinstance(item, Entry) for item in page.items)
        self.has_gap = self.entries != len(page.items)
        # Counted ahead with its renderings, so that what is kept has one bound.
        self.size_bytes = 1000 + (1 + MAX_RENDERINGS) * sum(map(_size, page.items))
        self._execution_id = execution_id
        self._items = page.items
        self._frames: dict[tuple[Format, Filter | None], bytes] = {}

    def frames(self, rendering: Format, wanted: Filter | None) -> bytes:
        key = (rendering, wanted)
        frames = self._frames.get(key)
        if frames is None:
            frames = self._render(rendering, wanted)
            if len(self._frames) < MAX_RENDERINGS:
                self._frames[key] = frames
        return frames

    def _render(self, rendering: Format, wanted: Filter | None) -> bytes:
        parts: list[bytes] = []
        skipped: Cursor | None = None
        for item in self._items:
            if isinstance(item, Gap):
                payload = {"execution_id": self._execution_id, **gap_payload(item)}
                parts.append(rendering.control("stream.gap", payload))
            elif wanted is None or wanted.wants(item):
                parts.append(rendering.entry(self._execution_id, item))
                skipped = None
            else:
                skipped = item.cursor
        if skipped is not None:
            parts.append(rendering.skipped(self._execution_id, skipped))
        return b"".join(parts)


def bounded(page: Page, most_bytes: int) -> Page:
    """As much of the beginning of a page as fits, and at least one entry."""
    size = 0
    for index, item in enumerate(page.items):
        if isinstance(item, Gap):
            continue
        size += _size(item)
        if size >= most_bytes and index + 1 < len(page.items):
            return Page(page.items[: index + 1], Numbering.after(item.cursor), more=True)
    return page


def _size(item: Entry | Gap) -> int:
    return len(item.raw_data) + _OVERHEAD_BYTES if isinstance(item, Entry) else 0


Deliver = Callable[[RenderedPage], None]


class Pages:
    """Reads pages; who asks for a page that is being read joins the reading, who comes soon after gets the same one."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._kept: OrderedDict[tuple[str, Cursor], RenderedPage] = OrderedDict()
        self._kept_bytes = 0
        self._reading: dict[tuple[str, Cursor], asyncio.Task[RenderedPage]] = {}
        # Of the executions read last: how many entries a page takes, always a power of two.
        self._counts: OrderedDict[str, int] = OrderedDict()

    async def read(self, execution_id: str, position: Numbering) -> RenderedPage:
        """One page after a position, shared. Raises BusUnavailableError, ReplyError."""
        key = (execution_id, position.cursor)
        kept = self._kept.get(key)
        # What a page says is true of its stretch for ever; only its end moves on, and a gap is one reader's own.
        if kept is not None and self._loop.time() - kept.read_at < KEEP_SECONDS:
            return kept
        reading = self._reading.get(key)
        if reading is None:
            reading = self._reading[key] = self._loop.create_task(self._read(execution_id, position))
            reading.add_done_callback(lambda _: self._reading.pop(key, None))
        return await asyncio.shield(reading)

    def forget_old(self) -> None:
        oldest = self._loop.time() - KEEP_SECONDS
        while self._kept:
            key, page = next(iter(self._kept.items()))
            if page.read_at > oldest and self._kept_bytes <= MAX_BYTES:
                return
            del self._kept[key]
            self._kept_bytes -= page.size_bytes

    def forget(self, execution_id: str) -> None:
        """What was read of it is not what it holds now."""
        for key in [key for key in self._kept if key[0] == execution_id]:
            self._kept_bytes -= self._kept.pop(key).size_bytes

    async def _read(self, execution_id: str, position: Numbering) -> RenderedPage:
        whole = self._counts.get(execution_id, FIRST_PAGE_ENTRIES)
        # Aligned by number, so that readers with different cursors soon ask for the same pages.
        count = whole - position.cursor.n % whole
        read = await self._log.read(execution_id, position, count)
        self._learn(execution_id, whole, read)
        page = RenderedPage(execution_id, bounded(read, PAGE_BYTES), self._loop.time())
        if page.entries and not page.has_gap:
            key = (execution_id, position.cursor)
            before = self._kept.pop(key, None)
            self._kept_bytes += page.size_bytes - (before.size_bytes if before is not None else 0)
            self._kept[key] = page
            self.forget_old()
        return page

    def _learn(self, execution_id: str, whole: int, page: Page) -> None:
        """Choose how many entries the next page of an execution takes."""
        size = sum(map(_size, page.items))
        if size > PAGE_BYTES:
            # At once, however much too large it was.
            fitting = max(1, len(page.items) * PAGE_BYTES // size)
            whole = min(whole, 1 << fitting.bit_length() - 1)
        elif page.more and size * 2 <= PAGE_BYTES:
            whole = min(PAGE_ENTRIES, whole * 2)
        self._counts[execution_id] = whole
        self._counts.move_to_end(execution_id)
        if len(self._counts) > MAX_COUNTS:
            self._counts.popitem(last=False)

    async def aclose(self) -> None:
        tasks = list(self._reading.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
