"""What a viewer of one execution asked for, checked. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.filter import Filter
from tailrace.gateway.presence import Kind
from tailrace.gateway.streams.deferred import SSE_TYPE
from tailrace.gateway.wire.formats import StreamFormat

NDJSON_TYPE: Final = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a viewer asked for, checked. ``cursor`` None means the present head.

    ``seen`` is how many frames of the entry at the cursor it has, where that is not all of them;
    ``wait_for_start`` how many seconds an execution may take to begin that is not there yet.
    """

    execution_id: str
    cursor: Cursor | None
    rendering: StreamFormat
    wanted: Filter | None = None
    coalesce_ms: int = 0
    media_type: str = SSE_TYPE
    seen: int = 0
    wait_for_start: float = 0.0

    @property
    def kind(self) -> Kind:
        """What it is counted as."""
        return "ndjson" if self.media_type == NDJSON_TYPE else "sse"
