"""The one judge of all faults of workers: what must be true of a run afterwards, whatever happened to who ran it."""

from __future__ import annotations

from collections.abc import Sequence

from tailrace.bus import Bus, Entry, Gap
from tests.faults.healing.story import check_story, read_story


async def check_run(bus: Bus, run: str, *copies: Sequence[Entry | Gap]) -> list[Entry]:
    """The log is valid by the state machine and complete, has one ending, and nothing twice; viewers have the log.

    Gives the log.
    """
    log = await read_story(bus, run)
    check_story(log)
    check_producers(log)
    for copy in copies:
        assert list(copy) == log, f"a viewer got {len(copy)} items of {len(log)}"
    return log


def check_producers(log: Sequence[Entry]) -> None:
    """Each producer's events stand there once each, in order, without a hole, and none after it was replaced."""
    last: dict[str, int] = {}
    speaking: str | None = None
    silenced: set[str] = set()
    for entry in log:
        if entry.type in {"execution.started", "execution.retrying"} and speaking is not None:
            silenced.add(speaking)
            speaking = None
        if entry.type != "custom.counted":
            continue
        producer, n = entry.data["producer"], entry.data["n"]
        assert producer not in silenced, f"{producer} speaks after it was replaced"
        assert speaking in {None, producer}, f"{speaking} and {producer} speak at a time"
        assert n == last.get(producer, 0) + 1, f"{producer} says {n} after {last.get(producer)}"
        speaking, last[producer] = producer, n


def check_frames(log: Sequence[Entry], events: Sequence[tuple[str, str, object]]) -> None:
    """A viewer over HTTP has the log: ids, types and data."""
    assert [(cursor, kind) for cursor, kind, _ in events] == [(str(entry.cursor), entry.type) for entry in log]
    assert [data for _, _, data in events] == [entry.data for entry in log]


def takeover_seconds(log: Sequence[Entry], died: float) -> float:
    """From a death, in Unix seconds, to the next attempt; both are of this machine's clock."""
    after = [entry for entry in log if entry.type == "execution.started" and entry.cursor.ms >= died * 1000]
    return after[0].cursor.ms / 1000 - died
