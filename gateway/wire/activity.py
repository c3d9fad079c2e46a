"""Changes as SSE frames. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from tailrace.bus.activity import Change
from tailrace.bus.model.entry import Entry
from tailrace.gateway.wire.formats import SseFormat

# Members that mean something where there is an execution behind the stream.
_OF_EXECUTIONS: Final = frozenset({"execution_id", "status"})


@lru_cache(maxsize=1024)
def change_of(entry: Entry) -> Change | None:
    """Each change is looked at by every filter and every format."""
    return Change.of(entry)


class ActivitySse(SseFormat):
    """The event's name is the change's type, its data the line that stands in the stream."""

    def entry(self, execution_id: str, entry: Entry) -> bytes:
        change = change_of(entry)
        if change is None:
            # A stranger wrote it.
            return self.skipped(execution_id, entry.cursor)
        name = b"event: %b\n" % change.type.encode() if self._named else b""
        return b"id: %d-%d\n%bdata: %b\n\n" % (*entry.cursor, name, entry.raw_data)

    def control(self, name: str, payload: dict[str, Any]) -> bytes:
        return super().control(name, {key: value for key, value in payload.items() if key not in _OF_EXECUTIONS})


ACTIVITY_SSE: Final = ActivitySse(named=True)
ACTIVITY_SSE_UNNAMED: Final = ActivitySse(named=False)
