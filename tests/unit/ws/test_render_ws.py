"""The wire of a socket: whatever is joined into one write is one array, and nothing in a log can break it."""

from __future__ import annotations

import contextlib
from typing import Any

import hypothesis.strategies as st
import msgpack
import orjson
import pytest
from hypothesis import given

from tailrace.bus.model.codec import decode
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.entry import Entry
from tailrace.gateway.streams.socket_schema import SERVER_FRAME
from tailrace.gateway.wire.formats import Message
from tailrace.gateway.wire.socket_formats import WS_JSON, WS_MSGPACK, SocketFormat

FORMATS = pytest.mark.parametrize("rendering", [WS_JSON, WS_MSGPACK], ids=lambda rendering: rendering.name)


def read(message: Message) -> list[dict[str, Any]]:
    """As a client of the right subprotocol reads it."""
    assert message["type"] == "websocket.send"
    frame = orjson.loads(message["text"]) if "text" in message else msgpack.unpackb(message["bytes"])
    SERVER_FRAME.validate_python(frame)
    return list(frame)


def entry(n: int = 1, data: bytes = b'{"x":1}', **rest: Any) -> Entry:
    return Entry(
        Cursor(1000, n), "step.progress", rest.pop("step", "fetch"), "2026-01-02T03:04:05.678000Z", data, **rest
    )


@FORMATS
def test_an_event_carries_all_of_its_entry(rendering: SocketFormat) -> None:
    (event,) = read(rendering.message(rendering.entry("e", entry(7, raw_meta=b'{"m":1}'))))
    assert event == {
        "op": "event",
        "execution": "e",
        "id": "1000-7",
        "type": "step.progress",
        "step": "fetch",
        "ts": "2026-01-02T03:04:05.678000Z",
        "data": {"x": 1},
        "meta": {"m": 1},
    }


@FORMATS
def test_an_event_without_a_step_has_none(rendering: SocketFormat) -> None:
    (event,) = read(rendering.message(rendering.entry("e", entry(step=None))))
    assert "step" not in event


@FORMATS
@pytest.mark.parametrize("count", [1, 2, 15, 16, 300])
def test_what_is_joined_is_one_array(rendering: SocketFormat, count: int) -> None:
    gap = rendering.control(
        "stream.gap", {"execution_id": "e", "requested": "1-1", "earliest": None, "latest": None, "reason": "flushed"}
    )
    skipped = rendering.skipped("e", Cursor(1000, count + 1))
    frames = gap + b"".join(rendering.entry("e", entry(n + 1)) for n in range(count)) + skipped
    messages = read(rendering.message(frames))
    assert [message["op"] for message in messages] == ["gap", *["event"] * count, "cursor"]
    assert [message["id"] for message in messages[1:]] == [f"1000-{n + 1}" for n in range(count + 1)]


@FORMATS
def test_the_hubs_controls_speak_of_the_execution_by_the_protocols_word(rendering: SocketFormat) -> None:
    control = rendering.control("stream.caught_up", {"execution_id": "e", "cursor": "1-1"})
    assert read(rendering.message(control)) == [{"op": "caught_up", "execution": "e", "cursor": "1-1"}]


@FORMATS
def test_there_is_nothing_to_say_for_an_opening_or_a_heartbeat(rendering: SocketFormat) -> None:
    assert rendering.control("stream.open", {"execution_id": "e"}) == b""
    assert rendering.heartbeat == b""


def test_bytes_are_base64_in_json_and_bytes_in_msgpack() -> None:
    binary = entry(data=b'"AAEC"', encoding="base64")
    (shown,) = read(WS_JSON.message(WS_JSON.entry("e", binary)))
    assert (shown["data"], shown["encoding"]) == ("AAEC", "base64")
    (packed,) = read(WS_MSGPACK.message(WS_MSGPACK.entry("e", binary)))
    assert packed["data"] == b"\x00\x01\x02"
    assert "encoding" not in packed


@pytest.mark.parametrize("depth", [1023, 1024])
def test_what_nests_too_deep_for_msgpack_is_sent_as_json_text(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    (event,) = read(WS_MSGPACK.message(WS_MSGPACK.entry("e", entry(data=deep))))
    assert (event["data"], event["encoding"]) == (deep.decode(), "json")


def test_what_only_has_many_brackets_is_packed() -> None:
    wide = [[n] for n in range(2000)]
    (event,) = read(WS_MSGPACK.message(WS_MSGPACK.entry("e", entry(data=orjson.dumps(wide)))))
    assert event["data"] == wide


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(
    logged=st.lists(
        st.dictionaries(
            st.sampled_from([b"t", b"s", b"ts", b"d", b"m", b"e", b"zz"]),
            st.binary(max_size=40) | JSON_VALUES.map(lambda value: orjson.dumps(str(value))),
        ),
        min_size=1,
        max_size=5,
    ),
    rendering=st.sampled_from([WS_JSON, WS_MSGPACK]),
)
def test_nothing_that_a_stranger_writes_breaks_a_frame(
    logged: list[dict[bytes, bytes]], rendering: SocketFormat
) -> None:
    entries = [
        decode(b"5-%d" % n, [part for pair in fields.items() for part in pair]) for n, fields in enumerate(logged)
    ]
    messages = read(rendering.message(b"".join(rendering.entry("e", each) for each in entries)))
    assert [message["id"] for message in messages] == [each.id for each in entries]
    assert [message["type"] for message in messages] == [each.type for each in entries]


@FORMATS
def test_a_frame_of_the_other_kind_is_refused(rendering: SocketFormat) -> None:
    other: Message = {"type": "websocket.receive", **({"bytes": b"{}"} if rendering is WS_JSON else {"text": "{}"})}
    with pytest.raises(ValueError, match="frames only"):
        rendering.parse(other)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_msgpack_are_refused_as_a_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        WS_MSGPACK.parse({"type": "websocket.receive", "bytes": data})
