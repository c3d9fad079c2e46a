"""Events: what a producer states. Pure.

Types are lower-case words joined by dots (``_TYPE`` below); ``execution.*`` is the bus's own vocabulary, ``stream.*``
belongs to the wire's control frames and can never be an event.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import orjson

from tailrace.bus.errors import EventTooLargeError, InvalidEventError, InvalidExecutionIdError, InvalidInputError
from tailrace.bus.model.numbers import check_numbers

MAX_EVENT_BYTES: Final = 256 * 1024
MAX_TYPE_CHARS: Final = 128
MAX_STEP_CHARS: Final = 256
MAX_SHORT_CHARS: Final = 40

_TYPE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*", re.ASCII)
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII)
_EXECUTION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", re.ASCII)
# Line breaks of any kind would break frames; half a surrogate pair has no UTF-8 form.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029\ud800-\udfff]")

_NEXT_LINE: Final = "\u0085".encode()
_LINE_SEPARATOR: Final = "\u2028".encode()
_PARAGRAPH_SEPARATOR: Final = "\u2029".encode()

TOKEN: Final = "token"  # noqa: S105 - a piece of text, no secret
DROPPED: Final = "dropped"

QUEUED: Final = "execution.queued"
STARTED: Final = "execution.started"
RETRYING: Final = "execution.retrying"
PAUSED: Final = "execution.paused"
RESUMED: Final = "execution.resumed"
SIGNALLED: Final = "execution.signalled"
CANCEL_REQUESTED: Final = "execution.cancel_requested"
PAUSE_REQUESTED: Final = "execution.pause_requested"
RESUME_REQUESTED: Final = "execution.resume_requested"
SIGNAL_REQUESTED: Final = "execution.signal_requested"
COMPLETED: Final = "execution.completed"
FAILED: Final = "execution.failed"
CANCELLED: Final = "execution.cancelled"
TIMED_OUT: Final = "execution.timed_out"

TERMINAL_TYPES: Final = frozenset({COMPLETED, FAILED, CANCELLED, TIMED_OUT})
REQUEST_TYPES: Final = frozenset({CANCEL_REQUESTED, PAUSE_REQUESTED, RESUME_REQUESTED, SIGNAL_REQUESTED})
LIFECYCLE_TYPES: Final = TERMINAL_TYPES | REQUEST_TYPES | {QUEUED, STARTED, RETRYING, PAUSED, RESUMED, SIGNALLED}


@dataclass(frozen=True, slots=True)
class Event:
    """What is stated: a type, JSON data, and who says so about which step.

    ``data`` is any JSON value, or bytes, which travel as they are and are shown as base64.
    ``ts`` is the producer's time, RFC 3339 in UTC with microseconds.
    """

    type: str
    data: Any = None
    step: str | None = None
    ts: str | None = None
    meta: dict[str, Any] | None = None


def check_type(event_type: object) -> str:
    """Return the type when a producer may use it. Raises InvalidEventError."""
    if not isinstance(event_type, str):
        raise _not_a_type(event_type)
    return _check_type(event_type)


@lru_cache(maxsize=4096)
def _check_type(event_type: str) -> str:
    if not _TYPE.fullmatch(event_type):
        raise _not_a_type(event_type)
    if len(event_type) > MAX_TYPE_CHARS:
        raise InvalidEventError("type", f"has {len(event_type)} characters, the limit is {MAX_TYPE_CHARS}")
    if event_type.startswith("stream."):
        raise InvalidEventError("type", f"'{event_type}' is reserved: stream.* are control frames of the wire")
    if event_type.startswith("execution.") and event_type not in LIFECYCLE_TYPES:
        raise InvalidEventError(
            "type",
            f"'{event_type}' is reserved: execution.* is the life cycle of an execution; use 'custom.…'",
        )
    return event_type


def check_step(step: object) -> str:
    """Return the step's name when it may be used. Raises InvalidEventError."""
    if not isinstance(step, str) or not step or len(step) > MAX_STEP_CHARS:
        raise InvalidEventError("step", f"{_shown(step)} is not a step name; expected 1 to {MAX_STEP_CHARS} characters")
    return _check_step(step)


@lru_cache(maxsize=4096)
def _check_step(step: str) -> str:
    if _UNPRINTABLE.search(step):
        raise InvalidEventError("step", f"{_shown(step)} has control characters, or halves of surrogate pairs")
    return step


def _not_a_type(event_type: object) -> InvalidEventError:
    return InvalidEventError(
        "type",
        f"{_shown(event_type)} is not an event type; expected lower-case words with dots, as in 'step.progress'",
    )


def check_execution_id(execution_id: object, *, field: str = "execution_id") -> str:
    """Return the id when it is well formed. Raises InvalidExecutionIdError."""
    if not isinstance(execution_id, str) or not _EXECUTION_ID.fullmatch(execution_id):
        raise InvalidExecutionIdError(
            field,
            f"{_shown(execution_id)} is not an execution id; expected 1 to 128 letters, digits, '_' or '-'",
        )
    return execution_id


def check_name(name: object, *, field: str) -> str:
    """Return the name of a pipeline or queue when it is well formed. Raises InvalidInputError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInputError(
            field, f"{_shown(name)} is not a name; expected 1 to 64 lower-case letters, digits, '_' or '-'"
        )
    return name


def new_execution_id(unix_ms: int, random: Callable[[int], bytes]) -> str:
    """Make a UUIDv7 (RFC 9562, section 5.7) from a time and a source of random bytes: sorts by creation."""
    noise = int.from_bytes(random(10), "big")
    value = (unix_ms & (2**48 - 1)) << 80 | 0x7 << 76 | (noise >> 68) << 64 | 0b10 << 62 | noise & (2**62 - 1)
    return str(uuid.UUID(int=value))


def encode_json(data: Any, *, field: str = "data", limit_bytes: int = MAX_EVENT_BYTES) -> bytes:
    """Render data as one line of JSON. Raises InvalidEventError, EventTooLargeError.

    Numbers that JSON does not have are refused, with their place as the error's field.
    """
    try:
        encoded = orjson.dumps(data, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        check_numbers(data, field=field)
        raise InvalidEventError(field, f"cannot be written as JSON: {error}") from None
    if len(encoded) > limit_bytes:
        raise EventTooLargeError(len(encoded), limit_bytes)
    if b"null" in encoded:
        # That is how NaN and infinities are written.
        check_numbers(data, field=field)
    # orjson writes into a block of some KiB, which the result keeps for as long as it lives: an event may wait.
    return memoryview(encoded).tobytes()


def breaks_lines(raw: bytes) -> bool:
    """Whether UTF-8 has U+0085, U+2028 or U+2029 in it, at which ``str.splitlines`` and its kind split lines."""
    return not raw.isascii() and (_NEXT_LINE in raw or _LINE_SEPARATOR in raw or _PARAGRAPH_SEPARATOR in raw)


def as_line(raw: bytes) -> bytes:
    """Escape in JSON what readers of lines would take for the end of one; JSON has it in strings only."""
    if not breaks_lines(raw):
        return raw
    raw = raw.replace(_NEXT_LINE, rb"\u0085").replace(_LINE_SEPARATOR, rb"\u2028")
    return raw.replace(_PARAGRAPH_SEPARATOR, rb"\u2029")


def shortened(data: dict[str, Any], *kept: str) -> dict[str, Any]:
    """Data for an event that must fit, though events may be as small as 256 bytes: it names what it leaves out."""
    short = {
        name: data[name][:MAX_SHORT_CHARS] if isinstance(data[name], str) else data[name]
        for name in kept
        if name in data
    }
    return {**short, "left_out": [name for name in data if name not in short]}


def _plain(value: object) -> Any:
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."  # noqa: PLR2004 - an error stays one line
