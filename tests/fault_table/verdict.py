"""What must be true afterwards, from three sources: the logs in Redis, the viewers' copies, and the owners' notes.

Nothing of the product is used here.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tests.fault_table.viewer import Viewer

ENDINGS = {"execution.completed", "execution.failed", "execution.cancelled", "execution.timed_out"}


@dataclass
class Row:
    """One fault on one topology, in numbers."""

    executions: int = 0
    events: int = 0
    acknowledged: int = 0
    # Acknowledged and not in the log; of these, told by a gap or by the log itself.
    lost: int = 0
    told: int = 0
    doubled: int = 0
    # Had another attempt, or ended otherwise than completed, by the kind of their owner.
    disturbed: dict[str, int] = field(default_factory=dict)
    # The highest attempt that was begun.
    attempts: int = 1
    # How often one acted after the next had begun, and for how long it went on.
    overlaps: int = 0
    overlap_ms: float = 0.0
    # Longest time without an event of a living execution, past the fault's end.
    stall_seconds: float = 0.0
    defects: list[str] = field(default_factory=list)

    @staticmethod
    def heads() -> tuple[str, ...]:
        return (
            "events",
            "acknowledged",
            "lost",
            "told",
            "doubled",
            "disturbed",
            "attempts",
            "overlap",
            "stall",
            "defects",
        )

    def cells(self) -> list[str]:
        disturbed = ", ".join(f"{count} {kind}" for kind, count in sorted(self.disturbed.items())) or "none"
        counts = [self.events, self.acknowledged, self.lost, self.told, self.doubled]
        overlap = f"{self.overlaps} of {self.overlap_ms:.0f} ms" if self.overlaps else "none"
        measured = [overlap, f"{self.stall_seconds:.1f} s"]
        return [*map(str, counts), disturbed, str(self.attempts), *measured, str(len(self.defects))]


@dataclass(frozen=True)
class Notes:
    # By (execution, by): when it acted, and the numbers that were acknowledged.
    acts: dict[tuple[str, str], list[float]]
    acked: dict[tuple[str, str], set[int]]
    lost: dict[str, list[str]]


def read_notes(directory: Path) -> Notes:
    acts: dict[tuple[str, str], list[float]] = defaultdict(list)
    acked: dict[tuple[str, str], set[int]] = defaultdict(set)
    lost: dict[str, list[str]] = defaultdict(list)
    for path in directory.glob("*.notes"):
        for line in path.read_bytes().split(b"\n")[:-1]:
            note = json.loads(line)
            if "act" in note:
                acts[note["act"], note["by"]].append(note["at"])
            elif "acked" in note:
                acked[note["acked"], note["by"]].add(note["n"])
            elif "lost" in note:
                lost[note["lost"]].append(note["error"])
    return Notes(acts, acked, lost)


def judge(
    row: Row,
    execution_id: str,
    *,
    kind: str,
    entries: Sequence[tuple[str, dict[str, str]]],
    viewers: Sequence[Viewer],
    notes: Notes,
    healed: float,
) -> None:
    row.executions += 1
    log = [(cursor, fields["t"], json.loads(fields.get("d") or "null")) for cursor, fields in entries]
    row.events += len(log)

    def defect(what: str) -> None:
        row.defects.append(f"{execution_id} ({kind}): {what}")

    types = [each for _, each, _ in log]
    if not types or types[-1] not in ENDINGS or sum(each in ENDINGS for each in types) != 1:
        defect(f"not one ending, at the end: {types[-3:]}")
    begun = types.count("execution.started")
    if begun != 1 or types[-1:] != ["execution.completed"]:
        row.disturbed[kind] = row.disturbed.get(kind, 0) + 1
    row.attempts = max([row.attempts, *(data["attempt"] for _, each, data in log if each == "execution.started")])
    is_gap_told = any(viewer.gaps for viewer in viewers) or "stream.gap" in types or "publisher.lost" in types
    numbers: dict[str, list[int]] = defaultdict(list)
    speakers: list[str] = []
    for _, each, data in log:
        if each == "custom.n":
            numbers[data["by"]].append(data["n"])
            if not speakers or speakers[-1] != data["by"]:
                speakers.append(data["by"])
    if len(speakers) != len(set(speakers)):
        defect("two owners' events are mixed")
    for by, there in numbers.items():
        row.doubled += len(there) - len(set(there))
        if there != sorted(set(there)):
            defect(f"events of {by} doubled or out of order")
        if there != list(range(there[0], there[0] + len(there))) and not is_gap_told:
            defect(f"a hole in the events of {by}, and nobody is told")
    for (execution, by), acked in notes.acked.items():
        if execution == execution_id:
            row.acknowledged += len(acked)
            missing = acked - set(numbers.get(by, ()))
            row.lost += len(missing)
            if missing and is_gap_told:
                row.told += len(missing)
            elif missing:
                defect(f"{len(missing)} acknowledged events are lost, and nobody is told")
    owners = sorted(times for (execution, _), times in notes.acts.items() if execution == execution_id)
    for times, later in pairwise(owners):
        if beside := [at for at in times if at > later[0]]:
            # One that was frozen may act once more before it notices.
            row.overlaps += 1
            row.overlap_ms = max(row.overlap_ms, (beside[-1] - beside[0]) * 1000)
    for viewer in viewers:
        if not viewer.ended:
            defect("a viewer has not been told the end")
        ids = [cursor for cursor, _, _ in viewer.seen]
        if len(ids) != len(set(ids)):
            defect("a viewer got an event twice")
        if not viewer.gaps and [*viewer.seen] != log:
            defect(f"a viewer without a gap has {len(viewer.seen)} events where the log has {len(log)}")
        after = [healed, *(at for at in viewer.times if at > healed)]
        if len(after) > 1:
            row.stall_seconds = max(row.stall_seconds, *(b - a for a, b in pairwise(after)))
