"""The recent entries of one execution, contiguous, rendered at most once a format. Pure and bounded."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter

from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.entry import Entry
from tailrace.bus.model.filter import Filter
from tailrace.bus.model.merging import runs_of_tokens
from tailrace.gateway.wire.formats import Format

# What one write carries at most while catching up: socket buffers are of this order.
CHUNK_BYTES = 64 * 1024
# Names, ids and object headers: what an entry takes beside its data.
_OVERHEAD_BYTES = 400
# Of so many formats frames are kept, those that were asked for last; more there are only where each viewer has its own.
MAX_FORMATS = 4
_cursor_of = attrgetter("cursor")


class Window:
    """Everything in ``(base, head]``. Appending beyond the bounds lets go of the oldest; ``base`` then moves up."""

    __slots__ = ("_bytes", "_entries", "_frames", "_frames_bytes", "_max_bytes", "base", "execution_id", "head")

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
        # Of the frames, which have room where entries leave it.
        self._frames_bytes = 0
        self._max_bytes = 0

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
        self._max_bytes = max_bytes
        if self._bytes + self._frames_bytes > max_bytes:
            self._forget_frames()
        if len(self._entries) > max_entries or self._bytes > max_bytes:
            self._evict(max_entries, max_bytes)
        return size

    def covers(self, cursor: Cursor) -> bool:
        """Whether what follows a cursor is here, proved: it is the base or one of the entries."""
        if cursor in (self.base, self.head):
            return True
        index = bisect_right(self._entries, cursor, key=_cursor_of)
        return index > 0 and self._entries[index - 1].cursor == cursor

    def chunk(self, after: Cursor, rendering: Format, wanted: Filter | None) -> tuple[bytes, int, int, Cursor]:
        """Frames that follow a covered cursor, up to about CHUNK_BYTES, and the cursor they lead to.

        Between them: how many events they are, and how many entries behind the last of these are left out.
        """
        start = bisect_right(self._entries, after, key=_cursor_of)
        entries = self._entries
        if wanted is not None and wanted.merges:
            return self._merged_chunk(start, rendering, wanted)
        cache = self._frames_of(rendering)
        parts: list[bytes] = []
        size = 0
        index = start
        skipped = 0
        while index < len(entries) and size < CHUNK_BYTES:
            entry = entries[index]
            skipped += 1
            if wanted is None or wanted.wants(entry):
                frame = cache[index]
                if frame is None:
                    frame = rendering.entry(self.execution_id, entry)
                    if self._bytes + self._frames_bytes + len(frame) <= self._max_bytes:
                        cache[index] = frame
                        self._frames_bytes += len(frame)
                if frame:
                    skipped = 0
                    parts.append(frame)
                    size += len(frame)
            index += 1
        if index == start:
            return b"", 0, 0, self.head
        return b"".join(parts), len(parts), skipped, entries[index - 1].cursor

    def _merged_chunk(self, start: int, rendering: Format, wanted: Filter) -> tuple[bytes, int, int, Cursor]:
        """Frames of entries that were merged are not kept: what goes together differs from one reader to the next."""
        entries = self._entries[start : start + 1]
        size = 0
        for entry in self._entries[start + 1 :]:
            size += len(entry.raw_data)
            if size >= CHUNK_BYTES:
                break
            entries.append(entry)
        if not entries:
            return b"", 0, 0, self.head
        return *merged_frames(self.execution_id, entries, rendering, wanted), entries[-1].cursor

    @property
    def size_bytes(self) -> int:
        """About what it takes: entries, and their frames."""
        return self._bytes + self._frames_bytes

    def _frames_of(self, rendering: Format) -> list[bytes | None]:
        cache = self._frames.pop(rendering, None)
        if cache is None:
            if len(self._frames) >= MAX_FORMATS:
                self._frames_bytes -= _size(self._frames.pop(next(iter(self._frames))))
            cache = [None] * len(self._entries)
        # The last one asked for stands at the end.
        self._frames[rendering] = cache
        return cache

    def _forget_frames(self) -> None:
        self._frames.clear()
        self._frames_bytes = 0

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
            self._frames_bytes -= _size(frames[:count])
            del frames[:count]
        self._bytes = size


def merged_frames(
    execution_id: str, entries: Sequence[Entry], rendering: Format, wanted: Filter
) -> tuple[bytes, int, int]:
    """Frames of adjacent entries, tokens merged; how many events they are, and how many entries are left out behind."""
    parts: list[bytes] = []
    shown = 0
    last = None
    for run in runs_of_tokens(filter(wanted.wants, entries)):
        if frames := rendering.run(execution_id, run):
            parts.append(frames)
            shown += len(run)
            last = run[-1]
    skipped = next((count for count, entry in enumerate(reversed(entries)) if entry is last), len(entries))
    return b"".join(parts), shown, skipped


def _size(frames: Sequence[bytes | None]) -> int:
    return sum(len(frame) for frame in frames if frame is not None)
