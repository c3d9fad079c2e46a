"""What must be true of a log after any fault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from tailrace.bus import Bus, Entry
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import START
from tailrace.bus.model.event import LIFECYCLE_TYPES
from tailrace.bus.model.lifecycle import ENDED
from tests.follow_up import follow_up


async def read_story(bus: Bus, run: str) -> list[Entry]:
    """The whole log, which must have no gap."""
    position, entries = Numbering.after(START), list[Entry]()
    while True:
        page = await bus.log.read(run, position)
        assert all(isinstance(item, Entry) for item in page.items), page.items
        entries += [item for item in page.items if isinstance(item, Entry)]
        position = page.position
        if not page.more:
            return entries


def check_story(entries: Sequence[Entry], *, ended: bool = True) -> None:
    """By the state machine; one ending, the last entry; nothing twice; no number left out."""
    status: Any = "none"
    for entry in entries:
        if entry.type in LIFECYCLE_TYPES:
            after = follow_up(status, entry.type, owner=True)
            assert after is not None, f"{entry.type} after {status}"
            status = after
    assert (status in ENDED) is ended
    assert sum(entry.is_terminal for entry in entries) == ended
    if ended:
        assert entries[-1].is_terminal
    assert [entry.cursor.n for entry in entries] == list(range(1, len(entries) + 1))
    told = [orjson.dumps(entry.data) for entry in entries if entry.type == "custom.counted"]
    assert len(told) == len(set(told))


def names_of(entries: Sequence[Entry]) -> list[str]:
    """The life cycle alone."""
    return [entry.type.removeprefix("execution.") for entry in entries if entry.type in LIFECYCLE_TYPES]
