"""An event on its way to a handler. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.entry import Entry, Gap

GAP: Final = "stream.gap"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event of one execution.

    ``repeated`` says that a handler before us may have had it: the last reader of this execution was lost without
    saying how far it had come. A gap in the log is a delivery too, of type ``stream.gap``; its ``id`` is the cursor
    that was asked for. One of no execution (``execution_id`` is empty) is a gap in the activity: executions that the
    group has missed, if they have ended.
    """

    execution_id: str
    cursor: Cursor
    type: str
    step: str | None
    ts: str | None
    data: Any
    meta: Any = None
    repeated: bool = False

    @property
    def id(self) -> str:
        """The cursor as text."""
        return str(self.cursor)

    @classmethod
    def of(cls, execution_id: str, item: Entry | Gap, *, repeated: bool = False) -> Delivery:
        """What a handler gets of an entry, or of a gap."""
        if isinstance(item, Gap):
            return cls(execution_id, item.requested, GAP, None, None, _told(item), repeated=repeated)
        return cls(execution_id, item.cursor, item.type, item.step, item.ts, item.data, item.meta, repeated)

    def as_json(self) -> dict[str, Any]:
        """Its members as they are shown everywhere; what there is none of is left out."""
        shown = {"id": self.id, "type": self.type, "execution_id": self.execution_id}
        further = {"step": self.step, "ts": self.ts, "meta": self.meta}
        more: dict[str, Any] = {name: value for name, value in further.items() if value is not None}
        if self.repeated:
            more["repeated"] = True
        return {**shown, **more, "data": self.data}


def _told(gap: Gap) -> dict[str, Any]:
    return {
        "requested": str(gap.requested),
        "earliest": None if gap.earliest is None else str(gap.earliest),
        "latest": None if gap.latest is None else str(gap.latest),
        "reason": gap.reason,
    }
