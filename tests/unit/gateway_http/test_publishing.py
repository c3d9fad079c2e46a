"""Events over HTTP: what is read from a batch, and how it is cut into appends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.bus import Bus, ConnectionLostError, InvalidInputError
from tailrace.bus.log.log import Appended
from tailrace.bus.model.event import LIFECYCLE_TYPES, QUEUED, REQUEST_TYPES
from tailrace.bus.queries.publishing import Line, append_lines, stretches
from tailrace.gateway.http.problems import ProblemError, problem_of
from tailrace.gateway.http.publishing import MAX_LINES, Origin, check_ts, problem_with, read_event, read_lines

NOW = "2026-01-02T03:04:05.678000Z"


def lines_of(*events: Any, origin: Origin | None = None) -> list[Line]:
    body = b"\n".join(event if isinstance(event, bytes) else json.dumps(event).encode() for event in events)
    return read_lines(body, origin or Origin(), now=NOW, limit_bytes=1000)


def fields(line: Line) -> dict[bytes, bytes]:
    assert line.error is None, line.error
    return dict(zip(line.fields[::2], line.fields[1::2], strict=True))


def test_an_event_is_laid_out_as_the_log_has_it() -> None:
    body = b'{"type":"step.progress","step":"fetch","data":{"x":1},"meta":{"m":1},"ts":"2026-01-02T04:04:05.6+01:00"}'
    line = read_event(body, Origin(), now=NOW, limit_bytes=1000)
    assert fields(line) == {
        b"t": b"step.progress",
        b"s": b"fetch",
        b"ts": b"2026-01-02T03:04:05.600000Z",
        b"d": b'{"x":1}',
        b"m": b'{"m":1}',
    }


def test_bytes_come_as_base64_and_the_time_of_arrival_stands_in() -> None:
    line = read_event(b'{"type":"a","data":"AP8=","encoding":"base64"}', Origin("p", 7), now=NOW, limit_bytes=1000)
    assert fields(line) == {b"t": b"a", b"ts": NOW.encode(), b"d": b"\x00\xff", b"e": b"binary"}
    assert (line.producer, line.seq) == ("http.p", 7)


def test_lines_are_numbered_within_their_producer_and_blank_ones_do_not_count() -> None:
    lines = lines_of({"type": "a"}, b"", b"  ", {"type": "b"}, origin=Origin("p", 5))
    assert [(line.number, line.seq, line.producer) for line in lines] == [(1, 5, "http.p"), (4, 6, "http.p")]


def test_a_line_may_name_its_own_producer_and_number() -> None:
    lines = lines_of({"type": "a", "producer": "q", "seq": 3}, {"type": "b", "seq": 9}, origin=Origin("p", 5))
    assert [(line.producer, line.seq) for line in lines] == [("http.q", 3), ("http.p", 9)]


@pytest.mark.parametrize(
    ("event", "code", "field"),
    [
        (b"{", "invalid_json", "body"),
        (b"\xff", "invalid_json", "body"),
        ([], "invalid_request", "body"),
        ({}, "invalid_request", "type"),
        ({"type": 5}, "invalid_request", "type"),
        ({"type": "a", "extra": 1}, "invalid_request", "extra"),
        ({"type": "A"}, "invalid_event", "type"),
        ({"type": "a\nb"}, "invalid_event", "type"),
        ({"type": "stream.end"}, "invalid_event", "type"),
        ({"type": "execution.own"}, "invalid_event", "type"),
        ({"type": "execution.cancel_requested"}, "invalid_event", "type"),
        ({"type": "execution.signal_requested"}, "invalid_event", "type"),
        ({"type": "execution.queued"}, "invalid_event", "type"),
        ({"type": "a", "step": ""}, "invalid_event", "step"),
        ({"type": "a", "step": "a\u2028b"}, "invalid_event", "step"),
        ({"type": "a", "ts": "now"}, "invalid_event", "ts"),
        ({"type": "a", "data": "x" * 2000}, "event_too_large", "data"),
        ({"type": "a", "data": "=", "encoding": "base64"}, "invalid_event", "data"),
        ({"type": "a", "data": 5, "encoding": "base64"}, "invalid_event", "data"),
        ({"type": "a", "encoding": "gzip"}, "invalid_request", "encoding"),
        ({"type": "a", "producer": "p"}, "invalid_input", "seq"),
        ({"type": "a", "seq": 1}, "invalid_input", "producer"),
        ({"type": "a", "producer": "p", "seq": 0}, "invalid_request", "seq"),
        ({"type": "a", "producer": "p", "seq": 2**53}, "invalid_request", "seq"),
        ({"type": "a", "producer": "p q", "seq": 1}, "invalid_request", "producer"),
        ({"type": "a", "meta": []}, "invalid_request", "meta"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_line_stands_in_that_line(event: Any, code: str, field: str) -> None:
    before, line, after = lines_of({"type": "a"}, event, {"type": "b"})
    assert before.error is None
    assert after.error is None
    assert line.error is not None
    problem = problem_of(line.error)
    assert (problem.code, problem.field) == (code, field)


def test_a_broken_line_is_of_the_producer_it_names() -> None:
    lines = lines_of({"producer": "q"}, b"{", origin=Origin("p", 1))
    assert [line.producer for line in lines] == ["http.q", "http.p"]


def test_a_batch_has_a_beginning_and_an_end() -> None:
    with pytest.raises(ProblemError, match="empty"):
        read_lines(b"\n \n", Origin(), now=NOW, limit_bytes=1000)
    with pytest.raises(ProblemError, match="the limit is 1000"):
        read_lines(b"{}\n" * (MAX_LINES + 1), Origin(), now=NOW, limit_bytes=1000)


def test_a_producer_without_a_number_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"^seq: is missing"):
        read_event(b'{"type":"a"}', Origin("p"), now=NOW, limit_bytes=1000)


@pytest.mark.parametrize(
    ("given_ts", "kept"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000Z"),
        ("2026-01-02T03:04:05.123456789Z", "2026-01-02T03:04:05.123456Z"),
        ("0999-01-02T03:04:05-00:30", "0999-01-02T03:34:05.000000Z"),
    ],
)
def test_times_are_kept_in_utc(given_ts: str, kept: str) -> None:
    assert check_ts(given_ts) == kept


@pytest.mark.parametrize(
    "given_ts", ["", "2026-02-30T00:00:00Z", "2026-01-02 03:04:05Z", "2026-01-02T03:04:05", "0001-01-01T00:00:00+01:00"]
)
def test_what_is_no_time_is_refused(given_ts: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^ts: "):
        check_ts(given_ts)


TYPES = st.sampled_from(["a", "b", "execution.started", "execution.completed"])
LINES = st.lists(st.tuples(TYPES, st.sampled_from(["", "http.p", "http.q"]), st.integers(1, 4), st.booleans()))


@given(LINES)
def test_stretches_put_together_are_the_batch_and_each_can_be_one_append(
    given_lines: list[tuple[str, str, int, bool]],
) -> None:
    broken = lines_of(b"{")[0].error
    lines = [
        Line(number, producer, seq if producer else 0, (), event_type, broken if is_broken else None)
        for number, (event_type, producer, seq, is_broken) in enumerate(given_lines)
    ]
    cut = list(stretches(lines))
    assert [line for stretch in cut for line in stretch] == lines
    for stretch in cut:
        assert len({line.producer for line in stretch}) == 1
        if stretch[0].producer:
            assert [line.seq for line in stretch] == list(range(stretch[0].seq, stretch[0].seq + len(stretch)))
        if len(stretch) > 1:
            assert all(line.error is None and line.type not in LIFECYCLE_TYPES for line in stretch)


class ScriptedLog:
    """Answers each append with what it was told to."""

    def __init__(self, *answers: Appended | Exception) -> None:
        self._answers = list(answers)

    async def append(self, *_: object, **__: object) -> Appended:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def state(self, _: str) -> None:
        """No execution was submitted under this id."""


class ScriptedBus:
    def __init__(self, *answers: Appended | Exception) -> None:
        self.log = ScriptedLog(*answers)
        self.index = None


async def appended(lines: Sequence[Line], *answers: Appended | Exception) -> list[tuple[int, str, str]]:
    bus = cast("Bus", ScriptedBus(*answers))
    outcomes = await append_lines(bus.log, bus.index, "e", lines, None)
    return [
        (outcome.line, outcome.status, "" if (problem := problem_with(outcome)) is None else problem.code)
        for outcome in outcomes
    ]


@pytest.mark.anyio
async def test_when_redis_stops_answering_in_the_middle_every_line_is_told_how_it_stands() -> None:
    lines = lines_of({"type": "a"}, {"type": "execution.started"}, {"type": "b"}, {"type": "c"})
    told = await appended(lines, Appended(5, 7, 1), ConnectionLostError("gone"))
    assert told == [
        (1, "written", ""),
        (2, "unknown", "bus_unavailable"),
        (3, "not_tried", ""),
        (4, "not_tried", ""),
    ]


@pytest.mark.anyio
async def test_when_redis_answers_nothing_at_all_the_whole_request_is_refused() -> None:
    with pytest.raises(ConnectionLostError):
        await appended(lines_of({"type": "a"}), ConnectionLostError("gone"))


@pytest.mark.anyio
async def test_the_new_ones_of_a_batch_are_its_last() -> None:
    lines = lines_of({"type": "a"}, {"type": "b"}, {"type": "c"}, origin=Origin("p", 1))
    bus = cast("Bus", ScriptedBus(Appended(5, 9, 2)))
    outcomes = await append_lines(bus.log, bus.index, "e", lines, None)
    assert [(outcome.status, str(outcome.cursor)) for outcome in outcomes] == [
        ("duplicate", "None"),
        ("written", "5-8"),
        ("written", "5-9"),
    ]


@pytest.mark.parametrize("event_type", sorted(REQUEST_TYPES | {QUEUED}))
def test_what_takes_another_right_than_to_publish_is_refused(event_type: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^type: .* cannot be published; ask for it with POST /v1/executions"):
        read_event(json.dumps({"type": event_type}).encode(), Origin(), now=NOW, limit_bytes=1000)
