"""The fault table's judge sees what it is there for, and one of its rows runs as it stands."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest

from tests.fault_table.verdict import Notes, Row, judge
from tests.fault_table.viewer import Viewer
from tests.patience import patient

pytestmark = pytest.mark.anyio

LOG = [
    ("1-1", "execution.started", {"attempt": 1}),
    *((f"1-{n + 1}", "custom.n", {"n": n, "by": "a"}) for n in (1, 2, 3)),
    ("1-5", "execution.completed", {}),
]


def judged(
    log: list[tuple[str, str, Any]],
    *,
    seen: list[tuple[str, str, Any]] | None = None,
    acked: frozenset[int] = frozenset({1, 2, 3}),
    acts: dict[tuple[str, str], list[float]] | None = None,
    gaps: int = 0,
) -> Row:
    viewer = Viewer("e", [])
    viewer.ended, viewer.seen, viewer.gaps = True, log if seen is None else seen, [{}] * gaps
    row = Row()
    entries = [(cursor, {"t": kind, "d": json.dumps(data)}) for cursor, kind, data in log]
    notes = Notes(acts or {}, {("e", "a"): set(acked)}, {})
    judge(row, "e", kind="program", entries=entries, viewers=[viewer], notes=notes, healed=0.0)
    return row


def test_a_log_that_is_whole_has_no_defect() -> None:
    row = judged(LOG)
    assert (row.defects, row.disturbed, row.acknowledged, row.lost) == ([], {}, 3, 0)


@pytest.mark.parametrize(
    ("log", "options", "found"),
    [
        (LOG[:-1], {}, "not one ending"),
        ([*LOG, ("1-6", "custom.n", {"n": 4, "by": "a"})], {}, "not one ending"),
        (LOG[:2] + LOG[3:], {}, "acknowledged events are lost"),
        (LOG[:2] + LOG[3:], {"acked": frozenset({1, 3})}, "a hole"),
        ([*LOG[:3], ("1-9", "custom.n", {"n": 2, "by": "a"}), LOG[-1]], {"acked": frozenset()}, "doubled"),
        (
            [*LOG[:2], ("1-8", "custom.n", {"n": 1, "by": "b"}), *LOG[2:]],
            {},
            "two owners' events are mixed",
        ),
        (LOG, {"seen": LOG[:-2] + LOG[-1:]}, "a viewer without a gap"),
        (LOG, {"seen": [*LOG, LOG[-1]]}, "a viewer got an event twice"),
    ],
)
def test_what_must_not_be_is_a_defect(log: list[tuple[str, str, Any]], options: dict[str, Any], found: str) -> None:
    assert any(found in defect for defect in judged(log, **options).defects), judged(log, **options).defects


def test_a_loss_that_is_told_is_counted_and_no_defect() -> None:
    row = judged(LOG[:3] + LOG[4:], gaps=1)
    assert (row.lost, row.told, row.defects) == (1, 1, [])


def test_two_who_act_at_a_time_are_measured() -> None:
    row = judged(LOG, acts={("e", "a"): [1.0, 4.0, 4.5, 5.0], ("e", "b"): [4.2, 9.0]})
    assert (row.overlaps, row.overlap_ms) == (1, 500)


@pytest.mark.timeout(400)
async def test_a_row_of_the_table_runs_as_it_stands() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fault_table", "--topology", "standalone", "--fault", "gateway-killed"),
        *("--executions", "12", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, told = await asyncio.wait_for(process.communicate(), patient(50))
    assert process.returncode == 0, told.decode()
    (row,) = [json.loads(line) for line in out.splitlines()]
    assert (row["executions"], row["lost"], row["doubled"], row["disturbed"]) == (12, 0, 0, {})
    assert row["events"] > 12 * 4
