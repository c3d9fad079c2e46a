"""Any program may write to a log. Whatever stands there, decoding shows one line of JSON and never raises."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tailrace.bus.errors import EventTooLargeError, InvalidEventError
from tailrace.bus.model.codec import MAX_META_BYTES, decode, drop, encode, ts_of
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.entry import Entry
from tailrace.bus.model.event import DROPPED, Event, check_step, check_type

LIMIT_BYTES = 4096
TS = "2026-01-02T03:04:05.000006Z"

safe_text = st.text(st.characters(codec="utf-8"), max_size=30)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | safe_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(safe_text, inner, max_size=3),
    max_leaves=8,
)
types = st.from_regex(r"[a-z][a-z0-9_]{0,8}(\.[a-z0-9_]{1,8}){0,3}", fullmatch=True).filter(
    lambda name: not name.startswith(("stream.", "execution."))
)
steps = st.none() | st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), min_size=1, max_size=20
)
metas = st.none() | st.dictionaries(safe_text, json_values, min_size=1, max_size=3)


def assert_showable(entry: Entry) -> None:
    """What every renderer downstream relies on."""
    check_type(entry.type)
    if entry.step is not None:
        check_step(entry.step)
    assert len(entry.ts.splitlines()) == 1
    entry.ts.encode("ascii")
    for raw in (entry.raw_data, entry.raw_meta):
        if raw is not None:
            assert b"\n" not in raw
            assert b"\r" not in raw
            orjson.loads(raw)
            raw.decode()


@given(types, json_values, steps, metas)
def test_an_event_survives_the_log(event_type: str, data: Any, step: str | None, meta: dict[str, Any] | None) -> None:
    fields = encode(Event(event_type, data, step, None, meta), ts=TS)
    entry = decode(b"1700000000000-7", fields)
    assert_showable(entry)
    assert (entry.cursor, entry.id) == (Cursor(1700000000000, 7), "1700000000000-7")
    assert (entry.type, entry.step, entry.ts, entry.data, entry.meta) == (event_type, step, TS, data, meta)


@given(st.binary(max_size=200))
def test_bytes_survive_the_log_and_are_shown_as_base64(data: bytes) -> None:
    entry = decode(b"1-1", encode(Event("blob", data), ts=TS))
    assert_showable(entry)
    assert base64.b64decode(entry.data) == data
    assert entry.encoding == "binary"


def test_the_type_stands_first_because_the_append_script_reads_it_there() -> None:
    fields = encode(Event("a.b", 1, "fetch", None, {"k": 1}), ts=TS)
    assert fields == [b"t", b"a.b", b"s", b"fetch", b"ts", TS.encode(), b"d", b"1", b"m", b'{"k":1}']


@pytest.mark.parametrize("length", range(3060, 3080))
def test_bytes_count_as_what_viewers_get_to_see(length: int) -> None:
    event = Event("blob", b"x" * length)
    shown = len(base64.b64encode(b"x" * length)) + 2
    if length > LIMIT_BYTES * 3 // 4 and shown > LIMIT_BYTES:
        with pytest.raises(EventTooLargeError):
            encode(event, ts=TS, limit_bytes=LIMIT_BYTES)
    else:
        entry = decode(b"1-1", encode(event, ts=TS, limit_bytes=LIMIT_BYTES), limit_bytes=LIMIT_BYTES)
        assert entry.type == "blob"
        assert len(entry.raw_data) <= LIMIT_BYTES + 2


@pytest.mark.parametrize(
    "event",
    [
        Event("Bad"),
        Event("a", step=""),
        Event("a", step="x\ny"),
        Event("a", object()),
        Event("a", 1, meta={"k": object()}),
        Event("a", "x" * LIMIT_BYTES),
        Event("a", b"x" * LIMIT_BYTES),
        Event("a", 1, meta={"k": "x" * MAX_META_BYTES}),
    ],
    ids=["type", "empty step", "step", "data", "meta", "large data", "large bytes", "large meta"],
)
def test_what_could_not_be_read_again_is_never_written(event: Event) -> None:
    with pytest.raises(InvalidEventError):
        encode(event, ts=TS, limit_bytes=LIMIT_BYTES)


names = st.sampled_from([b"t", b"s", b"ts", b"d", b"m", b"e", b"x", b"", b"\xff", b"id\nevent: x"])
hostile = st.binary(max_size=40) | st.sampled_from(
    [
        b"",
        b"token",
        b"execution.completed",
        b"stream.end",
        b"binary",
        b"gzip",
        b"\xff\xfe",
        b"\x00",
        b'"a\nb"',
        b'"\\ud800"',
        b"1e999",
        b"-",
        b"NaN",
        b"{}{}",
        b"\xef\xbb\xbf1",
        b"[1,\n2,\r\n3]",
        b'{"a":1,"a":2}',
        b"123456789012345678901234567890",
        TS.encode(),
        b"2026-01-02T03:04:05Z\ndata: x",
        b"9" * 5000,
        b"[" * 300 + b"\n" + b"]" * 300,
        b"[" * 1000 + b"]" * 1000,
        b"[" * 3000,
        b'"' + b"x" * LIMIT_BYTES + b'"',
        b"a" * 70_000,
    ]
)
raw_ids = st.builds(lambda ms, n: b"%d-%d" % (ms, n), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))


@given(raw_ids, st.none() | st.lists(names | hostile, max_size=14))
@example(b"1-1", [b"t", b"a", b"d", b"[" * 300 + b"\n" + b"]" * 300])
@example(b"18446744073709551615-18446744073709551615", [b"t"])
def test_any_fields_at_all_become_an_entry_that_can_be_shown(raw_id: bytes, fields: list[bytes] | None) -> None:
    entry = decode(raw_id, fields, limit_bytes=LIMIT_BYTES)
    assert entry.cursor.encode() == raw_id
    assert_showable(entry)


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys((b"t", b"s", b"ts", b"d", b"m", b"e"), hostile)),
    st.permutations([b"t", b"s", b"ts", b"d", b"m", b"e"]),
)
def test_any_values_of_known_fields_in_any_order_become_an_entry_that_can_be_shown(
    given_fields: dict[bytes, bytes], order: list[bytes]
) -> None:
    fields = [part for name in order if name in given_fields for part in (name, given_fields[name])]
    entry = decode(b"5-0", fields, limit_bytes=LIMIT_BYTES)
    assert_showable(entry)
    if entry.type == DROPPED and b"t" in given_fields and given_fields[b"t"] != b"dropped":
        assert entry.data["reason"] == "invalid_entry"
        assert entry.data["field"] in {"t", "type", "s", "step", "d", "m", "e"}


@given(hostile, hostile)
def test_the_short_path_says_what_the_general_path_says(data: bytes, ts: bytes) -> None:
    """Our publishers' own layout is decoded by a shorter way; both ways must agree on every value."""
    short = decode(b"5-1", [b"t", b"a", b"s", b"b", b"ts", ts, b"d", data], limit_bytes=LIMIT_BYTES)
    general = decode(b"5-1", [b"t", b"a", b"s", b"b", b"d", data, b"ts", ts], limit_bytes=LIMIT_BYTES)
    assert short == general


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ([b"d", b"1"], "t"),
        ([b"t", b"Bad Type"], "type"),
        ([b"t", b"stream.end"], "type"),
        ([b"t", b"\xff"], "t"),
        ([b"t", b"a", b"s", b"\xff"], "s"),
        ([b"t", b"a", b"s", b"x\ny"], "step"),
        ([b"t", b"a", b"d", b"{"], "d"),
        ([b"t", b"a", b"d", b""], "d"),
        ([b"t", b"a", b"d", b'"\xff"'], "d"),
        ([b"t", b"a", b"d", b'"' + b"x" * LIMIT_BYTES + b'"'], "d"),
        ([b"t", b"a", b"m", b"{"], "m"),
        ([b"t", b"a", b"e", b"gzip"], "e"),
    ],
)
def test_what_cannot_be_shown_says_which_field_is_wrong(fields: list[bytes], field: str) -> None:
    entry = decode(b"5-1", fields, limit_bytes=LIMIT_BYTES)
    assert entry.type == DROPPED
    assert entry.data["field"] == field
    assert len(entry.raw_data) < 1000


def test_a_good_plain_xadd_is_shown_with_the_time_of_its_id() -> None:
    entry = decode(b"1767323045006-0", [b"t", b"my.event", b"d", b'{"x":1}'])
    assert (entry.type, entry.data, entry.step, entry.ts) == ("my.event", {"x": 1}, None, "2026-01-02T03:04:05.006000Z")


def test_an_event_without_data_is_null() -> None:
    assert decode(b"1-1", [b"t", b"a"]).raw_data == b"null"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b'{"a":\n1,\r\n"b": [2,\r3]}', b'{"a": 1,  "b": [2, 3]}'),
        (b"123456789012345678901234567890\n", b"123456789012345678901234567890 "),
        (b"[" * 300 + b"\n" + b"]" * 300, b"[" * 300 + b" " + b"]" * 300),
    ],
    ids=["pretty", "large integer", "deeper than can be written anew"],
)
def test_pretty_printed_json_is_shown_on_one_line_and_otherwise_as_it_stands(written: bytes, shown: bytes) -> None:
    assert decode(b"1-1", [b"t", b"a", b"d", written]).raw_data == shown


def test_of_a_field_that_comes_twice_the_last_counts() -> None:
    assert decode(b"1-1", [b"t", b"a", b"t", b"b", b"d", b"1", b"d", b"2"])[1:5:3] == ("b", b"2")


def test_an_entry_can_be_dropped_later_and_keeps_its_place() -> None:
    entry = decode(b"9-3", [b"t", b"execution.completed", b"s", b"x"])
    dropped = drop(entry, "not_the_ending")
    assert (dropped.cursor, dropped.step, dropped.ts) == (entry.cursor, entry.step, entry.ts)
    assert dropped.data == {"reason": "not_the_ending", "type": "execution.completed"}
    assert not dropped.is_terminal
    assert_showable(dropped)


@given(st.integers(0, 2**64 - 1))
def test_any_time_has_a_text_and_texts_sort_like_times(unix_ms: int) -> None:
    text = ts_of(unix_ms)
    assert text <= ts_of(unix_ms + 1)
    if unix_ms < 253_402_300_800_000:
        assert datetime.fromisoformat(text).timestamp() * 1000 == pytest.approx(unix_ms)
    assert datetime.fromisoformat(text).tzinfo == UTC


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_only_bytes_themselves_are_data_and_never_something_that_still_changes(make: Callable[[bytes], object]) -> None:
    event = Event("blob", make(b"x"))
    if make is bytes:
        assert encode(event, ts=TS)
    else:
        with pytest.raises(InvalidEventError):
            encode(event, ts=TS)
