"""The recent entries of one execution, contiguous, rendered at most once a format. Pure and bounded."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter

from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.entry import Entry
from tailrace.bus.model.filter import Filter
from tailrace.gateway.wire.formats import Format

# What one write carries at most while catching up: socket buffers are of this order.
CHUNK_BYTES = 64 * 1024
# Names, ids and object headers: what an entry takes beside its data.
_OVERHEAD_BYTES = 400
_cursor_of = attrgetter("cursor")


class Window:
    """Everything in ``(base, head]``. Appending beyond the bounds lets go of the oldest; ``base`` then moves up."""

    __slots__ = ("_bytes", "_entries", "_frames", "base", "execution_id", "head")

    def __init__(self, execution_id: str, head: Cursor) -> None:
        self.execution_id = execution_id
        self.reset(head)

    def reset(self, head: Cursor) -> None:
        """Hold nothing; go on after this cursor."""
        self.base = head
        self.head = head
        self._entries: list[Entry] = []
        self._frames: dict[Format, list[bytes | None]] = {}
        self._bytes = 0

    def pass_by(self, head: Cursor) -> None:
        """Go on after a cursor behind which all was written past the window."""
        if self._entries:
            self.reset(head)
        else:
            self.base = self.head = head

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, entries: Sequence[Entry], max_entries: int, max_bytes: int) -> int:
        """Take what follows the head, in order; gives about how many bytes that is."""
        size = 0
        for entry in entries:
            size += len(entry.raw_data) + _OVERHEAD_BYTES
        self._bytes += size
        self._entries.extend(entries)
        for frames in self._frames.values():
            frames.extend([None] * len(entries))
        self.head = entries[-1].cursor
        if len(self._entries) > max_entries or self._bytes > max_bytes:
            self._evict(max_entries, max_bytes)
        return size

    def covers(self, cursor: Cursor) -> bool:
        """Whether what follows a cursor is here, proved: it is the base or one of the entries."""
        if cursor in (self.base, self.head):
            return True
        index = bisect_right(self._entries, cursor, key=_cursor_of)
        return index > 0 and self._entries[index - 1].cursor == cursor

    def chunk(self, after: Cursor, rendering: Format, wanted: Filter | None) -> tuple[bytes, int, Cursor]:
        """Frames that follow a covered cursor, up to about CHUNK_BYTES; how many events; the cursor they lead to."""
        start = bisect_right(self._entries, after, key=_cursor_of)
        entries = self._entries
        cache = self._frames.get(rendering)
        if cache is None:
            cache = self._frames[rendering] = [None] * len(entries)
        parts: list[bytes] = []
        size = 0
        index = start
        shown = True
        while index < len(entries) and size < CHUNK_BYTES:
            entry = entries[index]
            shown = wanted is None or wanted.wants(entry)
            if shown:
                frame = cache[index]
                if frame is None:
                    frame = cache[index] = rendering.entry(self.execution_id, entry)
                parts.append(frame)
                size += len(frame)
            index += 1
        if index == start:
            return b"", 0, self.head
        cursor, count = entries[index - 1].cursor, len(parts)
        if not shown:
            parts.append(rendering.skipped(self.execution_id, cursor))
        return b"".join(parts), count, cursor

    def _evict(self, max_entries: int, max_bytes: int) -> None:
        # Down to half of the bound at once, so that each entry is moved a constant number of times.
        count = max(0, len(self._entries) - max(1, max_entries // 2))
        size = self._bytes - sum(len(entry.raw_data) + _OVERHEAD_BYTES for entry in self._entries[:count])
        while size > max_bytes // 2 and count < len(self._entries):
            size -= len(self._entries[count].raw_data) + _OVERHEAD_BYTES
            count += 1
        if count == 0:
            return
        self.base = self._entries[count - 1].cursor
        del self._entries[:count]
        for frames in self._frames.values():
            del frames[:count]
        self._bytes = size
