"""Pages of logs, read and rendered once for all who replay the same stretch."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from functools import partial
from itertools import groupby
from typing import Final, cast

from tailrace.bus.log.log import Log
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import START, Cursor
from tailrace.bus.model.entry import Entry, Gap
from tailrace.bus.model.filter import Filter
from tailrace.bus.model.lifecycle import Status
from tailrace.bus.model.reading import BarePage, Page, bare_page
from tailrace.gateway.hub.single_flight import SingleFlight
from tailrace.gateway.hub.window import merged_frames
from tailrace.gateway.wire.formats import Format, RenderBare

PAGE_ENTRIES: Final = 512
# What one write carries at most, if it is not a single event: a socket that is full holds no more than that.
PAGE_BYTES: Final = 256 * 1024
# How many entries make PAGE_BYTES is known after the first page of an execution; until then, not so many.
FIRST_PAGE_ENTRIES: Final = 64
MAX_COUNTS: Final = 4096
# Viewers that lost one gateway come back within seconds of each other, from cursors close to each other.
KEEP_SECONDS: Final = 5.0
# Less is read again for less than it takes to keep it for thousands of executions.
KEEP_ENTRIES: Final = 8
MAX_BYTES: Final = 64 * 1024 * 1024
# So many renderings of a page are kept beside it.
MAX_RENDERINGS: Final = 2
_OVERHEAD_BYTES: Final = 400


class BareFrames:
    """A bare page, rendered for one kind of viewer; its entries are not kept beside it."""

    ended = False
    status: Status = "unknown"
    has_gap = False

    def __init__(self, frames: bytes, page: BarePage, read_at: float) -> None:
        self.position = page.position
        self.more = page.more
        self.read_at = read_at
        self.entries = len(page.bare)
        self.size_bytes = 1000 + len(frames)
        self._frames = frames

    def frames(self, rendering: Format, wanted: Filter | None) -> tuple[bytes, int]:
        del rendering, wanted
        return self._frames, self.entries


class RenderedPage:
    """A page and its frames, one rendering per kind of viewer."""

    def __init__(self, execution_id: str, page: Page, read_at: float) -> None:
        self.position = page.position
        self.more = page.more
        self.ended = page.ended
        self.status = page.status
        self.read_at = read_at
        self.entries = sum(isinstance(item, Entry) for item in page.items)
        self.has_gap = self.entries != len(page.items)
        # Counted ahead with its renderings, so that what is kept has one bound.
        self.size_bytes = 1000 + (1 + MAX_RENDERINGS) * sum(map(_size, page.items))
        self._execution_id = execution_id
        self._items = page.items
        self._frames: dict[tuple[Format, Filter | None], tuple[bytes, int]] = {}

    def frames(self, rendering: Format, wanted: Filter | None) -> tuple[bytes, int]:
        key = (rendering, wanted)
        frames = self._frames.get(key)
        if frames is None:
            frames = self._render(rendering, wanted)
            if len(self._frames) < MAX_RENDERINGS:
                self._frames[key] = frames
        return frames

    def _render(self, rendering: Format, wanted: Filter | None) -> tuple[bytes, int]:
        parts: list[bytes] = []
        shown = 0
        skipped: Cursor | None = None
        if wanted is not None and wanted.merges:
            return self._render_merged(rendering, wanted)
        for item in self._items:
            if isinstance(item, Gap):
                parts.append(self._gap(rendering, item))
            elif (wanted is None or wanted.wants(item)) and (frame := rendering.entry(self._execution_id, item)):
                parts.append(frame)
                shown += 1
                skipped = None
            else:
                skipped = item.cursor
        if skipped is not None:
            parts.append(rendering.skipped(self._execution_id, skipped))
        return b"".join(parts), shown

    def _render_merged(self, rendering: Format, wanted: Filter) -> tuple[bytes, int]:
        parts: list[bytes] = []
        shown = 0
        for is_gap, items in groupby(self._items, lambda item: isinstance(item, Gap)):
            if is_gap:
                parts += [self._gap(rendering, cast("Gap", item)) for item in items]
                continue
            entries = cast("list[Entry]", list(items))
            frames, count, skipped = merged_frames(self._execution_id, entries, rendering, wanted)
            parts.append(frames)
            shown += count
            if skipped:
                parts.append(rendering.skipped(self._execution_id, entries[-1].cursor))
        return b"".join(parts), shown

    def _gap(self, rendering: Format, gap: Gap) -> bytes:
        return rendering.control("stream.gap", {"execution_id": self._execution_id, **gap.members()})


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


# Epoch of the log, cursor, and the rendering where a page was made for that alone.
_Key = tuple[int, Cursor, Format | None]


class Pages:
    """Reads pages; who asks for a page that is being read joins the reading, who comes soon after gets the same one."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._kept: OrderedDict[_Key, RenderedPage | BareFrames] = OrderedDict()
        self._kept_bytes = 0
        self._reading: SingleFlight[_Key, RenderedPage | BareFrames] = SingleFlight()
        # Of the executions read last: how many entries a page takes, always a power of two.
        self._counts: OrderedDict[str, int] = OrderedDict()

    async def read(
        self, execution_id: str, epoch: int, position: Numbering, rendering: Format, wanted: Filter | None
    ) -> RenderedPage | BareFrames:
        """One page after a position, shared by all who read the log in the same epoch.

        Raises BusUnavailableError, ReplyError.
        """
        render: RenderBare | None = None
        if wanted is None and self._log.of_executions:
            render = getattr(rendering, "bare", None)
        general: _Key = (epoch, position.cursor, None)
        key = general if render is None else (epoch, position.cursor, rendering)
        for kept in (self._kept.get(key), self._kept.get(general)):
            # What a page says is true of its stretch for ever; only its end moves on, and a gap is one reader's own.
            if kept is not None and self._loop.time() - kept.read_at < KEEP_SECONDS:
                return kept
        return await self._reading.ask(key, partial(self._read, execution_id, position, key, render))

    def forget_old(self) -> None:
        oldest = self._loop.time() - KEEP_SECONDS
        while self._kept:
            key, page = next(iter(self._kept.items()))
            if page.read_at > oldest and self._kept_bytes <= MAX_BYTES:
                return
            del self._kept[key]
            self._kept_bytes -= page.size_bytes

    async def _read(
        self, execution_id: str, position: Numbering, key: _Key, render: RenderBare | None
    ) -> RenderedPage | BareFrames:
        whole = self._counts.get(execution_id, FIRST_PAGE_ENTRIES)
        # Aligned by number, so that readers with different cursors soon ask for the same pages.
        count = whole - position.cursor.n % whole
        if render is not None:
            bare = await self._read_bare(execution_id, position, count)
            if bare is not None:
                frames = BareFrames(render(execution_id, bare.bare), bare, self._loop.time())
                self._learn(execution_id, whole, frames.entries, frames.size_bytes, more=bare.more)
                self._keep(key, frames)
                return frames
        read = await self._log.read(execution_id, position, count)
        self._learn(execution_id, whole, len(read.items), sum(map(_size, read.items)), more=read.more)
        page = RenderedPage(execution_id, bounded(read, PAGE_BYTES), self._loop.time())
        if page.entries and not page.has_gap:
            self._keep((key[0], position.cursor, None), page)
        return page

    async def _read_bare(self, execution_id: str, position: Numbering, count: int) -> BarePage | None:
        """What proves itself is read past the log's general way of reading."""
        start = b"-" if position.cursor == START else position.cursor.encode()
        key = self._log.keys.log(execution_id)
        raw = await self._log.commands.command("XRANGE", key, start, "+", "COUNT", count + 1)
        return bare_page(position, raw, count, self._log.max_event_bytes, PAGE_BYTES)

    def _keep(self, key: _Key, page: RenderedPage | BareFrames) -> None:
        if page.entries < KEEP_ENTRIES and page.size_bytes < PAGE_BYTES // KEEP_ENTRIES:
            return
        before = self._kept.pop(key, None)
        self._kept_bytes += page.size_bytes - (before.size_bytes if before is not None else 0)
        self._kept[key] = page
        self.forget_old()

    def _learn(self, execution_id: str, whole: int, entries: int, size: int, *, more: bool) -> None:
        """Choose how many entries the next page of an execution takes."""
        if size > PAGE_BYTES:
            # At once, however much too large it was.
            fitting = max(1, entries * PAGE_BYTES // size)
            whole = min(whole, 1 << fitting.bit_length() - 1)
        elif more and size * 2 <= PAGE_BYTES:
            whole = min(PAGE_ENTRIES, whole * 2)
        if whole == FIRST_PAGE_ENTRIES:
            self._counts.pop(execution_id, None)
            return
        self._counts[execution_id] = whole
        self._counts.move_to_end(execution_id)
        if len(self._counts) > MAX_COUNTS:
            self._counts.popitem(last=False)

    async def aclose(self) -> None:
        await self._reading.aclose()
