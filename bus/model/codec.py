"""Events to stream fields and back. Pure.

Fields: ``t`` type, ``s`` step, ``ts`` producer time, ``d`` data (JSON bytes), ``m`` meta (JSON bytes),
``e`` encoding when ``d`` is not JSON. Writing trusts its caller, who has checked; reading trusts no writer:
any program may have written the entry with a plain XADD.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import orjson

from tailrace.bus.errors import InvalidEventError
from tailrace.bus.model.cursor import Cursor, from_id
from tailrace.bus.model.entry import Entry
from tailrace.bus.model.event import (
    DROPPED,
    MAX_EVENT_BYTES,
    TERMINAL_TYPES,
    Event,
    as_line,
    breaks_lines,
    check_step,
    check_type,
    encode_json,
)

BINARY: Final = "binary"
MAX_META_BYTES: Final = 16 * 1024
# orjson reads so many levels and no more, and others of its kind likewise.
_PARSER_DEPTH: Final = 1024
MAX_DEPTH: Final = 1000
_TS = re.compile(rb"\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-6]\d(\.\d{1,9})?(Z|[+-][0-2]\d:[0-5]\d)", re.ASCII)
_KNOWN_FIELDS: Final = frozenset({b"t", b"s", b"ts", b"d", b"m", b"e"})
_NULL: Final = b"null"
_OUR_LAYOUTS: Final = ([b"t", b"s", b"ts", b"d"], [b"t", b"ts", b"d"])
_LF: Final = 10
_CR: Final = 13
_LINE_BREAKS_TO_SPACES: Final = bytes.maketrans(b"\r\n", b"  ")


def encode(event: Event, *, ts: str, limit_bytes: int = MAX_EVENT_BYTES) -> list[bytes]:
    """Lay an event out as stream fields, type first (append.lua reads it there).

    Raises InvalidEventError, EventTooLargeError.
    """
    fields = [b"t", check_type(event.type).encode()]
    if event.step is not None:
        fields += (b"s", check_step(event.step).encode())
    fields += (b"ts", (event.ts or ts).encode())
    if isinstance(event.data, bytes):
        # base64 makes four bytes of three: what counts is what viewers get.
        encode_limit = limit_bytes * 3 // 4
        if len(event.data) > encode_limit:
            encode_json(base64.b64encode(event.data).decode(), limit_bytes=limit_bytes)
        fields += (b"d", event.data, b"e", BINARY.encode())
    elif event.data is not None:
        fields += (b"d", encode_json(event.data, limit_bytes=limit_bytes))
    if event.meta:
        fields += (b"m", encode_json(event.meta, field="meta", limit_bytes=MAX_META_BYTES))
    return fields


def decode(entry_id: bytes, fields: Sequence[bytes] | None, *, limit_bytes: int = MAX_EVENT_BYTES) -> Entry:
    """Check what stands in the log. Never raises: what cannot be shown becomes a ``dropped`` entry."""
    cursor = from_id(entry_id)
    if fields is not None and fields[::2] in _OUR_LAYOUTS:
        entry = _decode_ours(cursor, fields, limit_bytes)
        if entry is not None:
            return entry
    given = dict(zip(fields[::2], fields[1::2], strict=False)) if fields else {}
    encoding = given.get(b"e")
    try:
        event_type = _type(given.get(b"t"))
        step = _step(given.get(b"s"))
        raw_data = _data(given.get(b"d", _NULL), encoding, limit_bytes)
        meta = given.get(b"m")
        raw_meta = None if meta is None else _json_line(meta, "m", MAX_META_BYTES)
    except InvalidEventError as refusal:
        return _dropped(cursor, refusal, given)
    ts = given.get(b"ts")
    # A stranger may leave the time out or write nonsense; the id's own time is then the best there is.
    shown_ts = ts.decode() if ts is not None and _TS.fullmatch(ts) else ts_of(cursor.ms)
    return Entry(cursor, event_type, step, shown_ts, raw_data, raw_meta, BINARY if encoding else None)


def _decode_ours(cursor: Cursor, fields: Sequence[bytes], limit_bytes: int) -> Entry | None:
    """Check what stands in the order in which our publishers write it; None sends it the general way.

    The same checks at a third of the cost: nearly every entry that a gateway reads is such a one.
    """
    data, ts = fields[-1], fields[-3]
    try:
        event_type = _type(fields[1])
        step = _step(fields[3]) if len(fields) == 8 else None  # noqa: PLR2004 - the longer of the two
        orjson.loads(data)
    except (InvalidEventError, orjson.JSONDecodeError):
        return None
    if len(data) > limit_bytes or _LF in data or _CR in data or breaks_lines(data) or not _TS.fullmatch(ts):
        return None
    if len(data) > 2 * MAX_DEPTH and _nests_deep(data):
        return None
    # What Entry(...) does, without its keyword handling: half the time, fifty thousand times a second.
    return tuple.__new__(Entry, (cursor, event_type, step, ts.decode(), data, None, None))


is_time: Final = _TS.fullmatch
"""Whether bytes are a time as RFC 3339 has it, and may stand in a frame as they are."""


@lru_cache(maxsize=256)
def is_second(raw: bytes) -> bool:
    """Whether bytes are a time up to the point before its fraction."""
    return raw.endswith(b".") and is_time(raw + b"0Z") is not None


@lru_cache(maxsize=4096)
def is_type_of_work(raw: bytes) -> bool:
    """Whether bytes are a type, and none of the life cycle's, which say more than that something happened."""
    try:
        return not _type(raw).startswith("execution.")
    except InvalidEventError:
        return False


@lru_cache(maxsize=4096)
def is_no_ending(raw: bytes) -> bool:
    """Whether bytes are a type, and none that claims to end the execution."""
    try:
        return _type(raw) not in TERMINAL_TYPES
    except InvalidEventError:
        return False


@lru_cache(maxsize=4096)
def is_step(raw: bytes) -> bool:
    try:
        return _step(raw) is not None
    except InvalidEventError:
        return False


def is_line(raw: bytes) -> bool:
    """Whether bytes are one line of JSON that may stand in a frame as they are, if they are not too many."""
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False
    if _LF in raw or _CR in raw or breaks_lines(raw):
        return False
    return len(raw) <= 2 * MAX_DEPTH or not _nests_deep(raw)


def drop(entry: Entry, reason: str) -> Entry:
    """Replace an entry that turned out not to be what it claims."""
    detail = encode_json({"reason": reason, "type": entry.type})
    return Entry(entry.cursor, DROPPED, entry.step, entry.ts, detail)


def ts_of(unix_ms: int) -> str:
    """Render a time as RFC 3339 in UTC with microseconds; years past 9999 are held at the last one."""
    seconds, ms = divmod(min(unix_ms, 253_402_300_799_999), 1000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms:03d}000Z"


def time_of(text: str) -> datetime | None:
    """Read a time as in RFC 3339, in UTC; None for what is not one, or not one that Python can hold."""
    if not _TS.fullmatch(text.encode()):
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=4096)
def _type(raw: bytes | None) -> str:
    if raw is None:
        raise InvalidEventError("t", "the entry has no type")
    return check_type(_text(raw, "t"))


@lru_cache(maxsize=4096)
def _step(raw: bytes | None) -> str | None:
    return None if raw is None else check_step(_text(raw, "s"))


def _data(raw: bytes, encoding: bytes | None, limit_bytes: int) -> bytes:
    if encoding is None:
        return _json_line(raw, "d", limit_bytes)
    if encoding == BINARY.encode():
        return b'"%b"' % base64.b64encode(_bounded(raw, "d", limit_bytes))
    raise InvalidEventError("e", f"{_shown(encoding)} is not an encoding this reader knows")


def _text(raw: bytes, field: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidEventError(field, "is not UTF-8") from None


def _json_line(raw: bytes, field: str, limit_bytes: int) -> bytes:
    _bounded(raw, field, limit_bytes)
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidEventError(field, f"is not JSON: {error}") from None
    if _nests_deep(raw):
        raise InvalidEventError(field, f"is nested more than {MAX_DEPTH} deep")
    # JSON allows line breaks between its tokens, and nowhere else; SSE frames, NDJSON lines and logs do not.
    # Not written anew: that would round large numbers, and fail where nesting is deeper than it may be written.
    if _LF in raw or _CR in raw:
        raw = raw.translate(_LINE_BREAKS_TO_SPACES)
    return as_line(raw)


def _nests_deep(raw: bytes) -> bool:
    """Whether it is readable by itself, and may not be any more inside an envelope, a page or a batch."""
    if len(raw) <= 2 * MAX_DEPTH or raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return False
    around = _PARSER_DEPTH - MAX_DEPTH
    try:
        orjson.loads(b"[" * around + raw + b"]" * around)
    except orjson.JSONDecodeError:
        return True
    return False


def _bounded(raw: bytes, field: str, limit_bytes: int) -> bytes:
    if len(raw) > limit_bytes:
        raise InvalidEventError(field, f"has {len(raw)} bytes, the limit is {limit_bytes}")
    return raw


def _dropped(cursor: Cursor, refusal: InvalidEventError, given: dict[bytes, bytes]) -> Entry:
    detail: dict[str, Any] = {"reason": "invalid_entry", "field": refusal.field, "detail": refusal.detail}
    unknown = sorted(key[:32].decode(errors="replace") for key in given.keys() - _KNOWN_FIELDS)[:8]
    if unknown:
        detail["unknown_fields"] = unknown
    return Entry(cursor, DROPPED, None, ts_of(cursor.ms), as_line(orjson.dumps(detail)))


def _shown(raw: bytes) -> str:
    return repr(raw[:32].decode(errors="replace"))
