"""Entries and control messages for WebSocket. Pure.

Every frame that a client gets is an array of messages, in JSON and in msgpack alike: whatever the hub joins into one
write, a batch or a gap with the entries behind it, has the same one shape. See docs/websocket.md.
"""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import Any, Final, Protocol

import msgpack
import orjson

from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.entry import Entry
from tailrace.bus.model.event import as_line
from tailrace.bus.model.numbers import load_json
from tailrace.gateway.wire.formats import Format, Message

_LENGTH_BYTES: Final = 4
_FIXARRAY_MOST: Final = 15
_SURELY_READABLE_DEPTH: Final = 500


class SocketFormat(Format, Protocol):
    is_socket: bool = True

    def piece(self, members: dict[str, Any]) -> bytes:
        """One message, to be joined with others and wrapped by ``message``."""

    def parse(self, message: Message) -> Any:
        """What a client sent, as plain objects. Raises ValueError that says what is wrong with it."""


def control_members(name: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Say on a socket what the hub says: ``stream.caught_up`` is the op ``caught_up``."""
    members = {"op": name.removeprefix("stream.")}
    for key, value in payload.items():
        members["execution" if key == "execution_id" else key] = value
    return members


class WsJsonFormat(SocketFormat):
    """Text frames. A piece ends in a comma, so that joined pieces lack only the brackets."""

    name = "ws-json"
    # The protocol's own pings tell both sides that the other lives, once a socket and not once a viewer.
    heartbeat = b""

    def entry(self, execution_id: str, entry: Entry) -> bytes:
        (ms, n), ts = entry.cursor, entry.ts.encode()
        lead = _json_lead(execution_id, entry.type, entry.step)
        piece = b'%b"id":"%d-%d","ts":"%b","data":%b' % (lead, ms, n, ts, entry.raw_data)
        if entry.raw_meta is not None:
            piece += b',"meta":' + entry.raw_meta
        if entry.encoding is not None:
            piece += b',"encoding":"base64"'
        return piece + b"},"

    def skipped(self, execution_id: str, cursor: Cursor) -> bytes:
        return self.piece({"op": "cursor", "execution": execution_id, "id": str(cursor)})

    def control(self, name: str, payload: dict[str, Any]) -> bytes:
        # The acknowledgement of the subscription has said it.
        return b"" if name == "stream.open" else self.piece(control_members(name, payload))

    def piece(self, members: dict[str, Any]) -> bytes:
        return as_line(orjson.dumps(members)) + b","

    def message(self, frames: bytes) -> Message:
        return {"type": "websocket.send", "text": f"[{frames[:-1].decode()}]"}

    def parse(self, message: Message) -> Any:
        text = message.get("text")
        if text is None:
            raise ValueError("the subprotocol tailrace.v1.json has text frames only")
        return load_json(text)


class WsMsgpackFormat(SocketFormat):
    """Binary frames. A piece begins with its length, which never leaves the gateway: an array must know its count."""

    name = "ws-msgpack"
    heartbeat = b""

    def entry(self, execution_id: str, entry: Entry) -> bytes:
        members = {"op": "event", "execution": execution_id, "type": entry.type}
        if entry.step is not None:
            members["step"] = entry.step
        members["id"] = str(entry.cursor)
        members["ts"] = entry.ts
        return _measured(_packed_entry(members, entry))

    def skipped(self, execution_id: str, cursor: Cursor) -> bytes:
        return self.piece({"op": "cursor", "execution": execution_id, "id": str(cursor)})

    def control(self, name: str, payload: dict[str, Any]) -> bytes:
        return b"" if name == "stream.open" else self.piece(control_members(name, payload))

    def piece(self, members: dict[str, Any]) -> bytes:
        return _measured(_pack(members))

    def message(self, frames: bytes) -> Message:
        size = len(frames)
        end = _end_of_piece(frames, 0)
        if end == size:
            return {"type": "websocket.send", "bytes": b"\x91" + frames[_LENGTH_BYTES:]}
        pieces = [frames[_LENGTH_BYTES:end]]
        while end < size:
            start, end = end, _end_of_piece(frames, end)
            pieces.append(frames[start + _LENGTH_BYTES : end])
        return {"type": "websocket.send", "bytes": _array_head(len(pieces)) + b"".join(pieces)}

    def parse(self, message: Message) -> Any:
        packed = message.get("bytes")
        if packed is None:
            raise ValueError("the subprotocol tailrace.v1.msgpack has binary frames only")
        try:
            return msgpack.unpackb(packed)
        except (TypeError, RecursionError) as error:
            raise ValueError(str(error)) from None


@lru_cache(maxsize=16384)
def _json_lead(execution_id: str, event_type: str, step: str | None) -> bytes:
    """What an execution's events of one kind have in common."""
    members = {"op": "event", "execution": execution_id, "type": event_type}
    if step is not None:
        members["step"] = step
    return orjson.dumps(members)[:-1] + b","


def _packed_entry(members: dict[str, Any], entry: Entry) -> bytes:
    if entry.encoding is not None:
        # Bytes have a form of their own here; base64 was for JSON.
        data: Any = base64.b64decode(entry.data)
    else:
        data = entry.data
    if entry.raw_meta is not None:
        members["meta"] = entry.meta
    try:
        packed = _pack({**members, "data": data})
        if entry.raw_data.count(b"[") + entry.raw_data.count(b"{") > _SURELY_READABLE_DEPTH:
            msgpack.unpackb(b"\x91" + packed)
    except (ValueError, OverflowError, RecursionError):
        # JSON may nest deeper than msgpack packs, or reads. It must not stop the other events, no matter who wrote it.
        return _pack({**members, "data": entry.raw_data.decode(), "encoding": "json"})
    return packed


def _pack(members: dict[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(members)
    return packed


def _measured(packed: bytes) -> bytes:
    return len(packed).to_bytes(_LENGTH_BYTES, "big") + packed


def _end_of_piece(frames: bytes, start: int) -> int:
    body = start + _LENGTH_BYTES
    return body + int.from_bytes(frames[start:body], "big")


def _array_head(count: int) -> bytes:
    if count <= _FIXARRAY_MOST:
        return bytes([0x90 | count])
    return b"\xdd" + count.to_bytes(4, "big")


WS_JSON: Final[SocketFormat] = WsJsonFormat()
WS_MSGPACK: Final[SocketFormat] = WsMsgpackFormat()
SUBPROTOCOLS: Final[dict[str, SocketFormat]] = {"tailrace.v1.json": WS_JSON, "tailrace.v1.msgpack": WS_MSGPACK}
