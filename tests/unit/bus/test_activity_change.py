"""A line of the activity: large data are left out by name, and what a stranger wrote is no change."""

from __future__ import annotations

import orjson
import pytest

from tailrace.bus.activity.change import MAX_DATA_BYTES, line_of, read_change, shortened
from tailrace.bus.model.cursor import Cursor

PLACE = Cursor(7, 1)
AT = Cursor(5, 3)


def line(raw_data: bytes = b"null", *, at: Cursor | None = AT, tenant: str | None = "acme") -> bytes:
    return line_of(
        "run",
        at,
        event_type="execution.completed",
        ts="2026-01-02T03:04:05.000000Z",
        tenant=tenant,
        pipeline=None,
        raw_data=raw_data,
    )


def test_what_is_written_is_what_is_read() -> None:
    change = read_change(PLACE, line(b'{"result":5}'))
    assert change is not None
    assert (change.cursor, change.execution_id, change.at) == (PLACE, "run", Cursor(5, 3))
    assert (change.type, change.tenant, change.pipeline) == ("execution.completed", "acme", None)
    assert change.data == {"result": 5}


def test_what_stands_in_no_log_has_no_place_there() -> None:
    change = read_change(PLACE, line(at=None))
    assert change is not None
    assert change.at is None


def test_small_data_stay_as_they_are() -> None:
    raw = b'{"reason": "x"}'
    assert shortened(raw) is raw


def test_of_large_data_the_small_members_stay_and_the_others_are_named() -> None:
    raw = orjson.dumps({"result": "x" * MAX_DATA_BYTES, "reason": "worker_lost", "attempts": 3})
    assert orjson.loads(shortened(raw)) == {"reason": "worker_lost", "attempts": 3, "left_out": ["result"]}


@pytest.mark.parametrize(
    "data",
    [
        ["x" * 5000],
        "x" * 5000,
        {f"n{i}": "y" * 400 for i in range(50)},
        {"k" * 5000: 1},
        {"a": ["z" * 9000], "é" * 600: 2},
    ],
)
def test_large_data_of_any_shape_become_short(data: object) -> None:
    short = shortened(orjson.dumps(data))
    assert len(short) <= MAX_DATA_BYTES
    assert "left_out" in orjson.loads(short)


@pytest.mark.parametrize(
    "raw",
    [
        b"null",
        b"[]",
        b"{}",
        b'"x"',
        line().replace(b'"run"', b'"../x"'),
        line().replace(b'"run"', b"5"),
        line().replace(b"execution.completed", b"Bad Type"),
        line().replace(b"execution.completed", b"stream.end"),
        line().replace(b'"5-3"', b'"x"'),
        line().replace(b'"5-3"', b'"0"'),
        line().replace(b'"acme"', b"[1]"),
        line(tenant="t" * 129),
        line().replace(b'"2026-01-02T03:04:05.000000Z"', b"9"),
    ],
)
def test_what_a_stranger_wrote_is_no_change(raw: bytes) -> None:
    assert read_change(PLACE, raw) is None


def test_a_time_that_is_none_is_that_of_the_id() -> None:
    change = read_change(PLACE, line().replace(b"2026-01-02T03:04:05.000000Z", b"x\\ny"))
    assert change is not None
    assert change.ts == "1970-01-01T00:00:00.007000Z"
