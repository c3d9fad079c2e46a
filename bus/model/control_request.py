"""Requests to an execution: cancel, pause, resume, signal. Pure.

A request is an event in the log like any other; append.lua leaves a copy in the control stream, with ``r``, the id of
the entry in the log. The owner reads it there and answers with an event that carries that id.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Literal

from tailrace.bus.errors import InvalidEventError, InvalidInputError
from tailrace.bus.model.codec import decode
from tailrace.bus.model.cursor import START, parse
from tailrace.bus.model.entry import Entry
from tailrace.bus.model.event import (
    CANCEL_REQUESTED,
    MAX_EVENT_BYTES,
    PAUSED,
    REQUEST_TYPES,
    RESUMED,
    SIGNALLED,
)
from tailrace.bus.model.reading import RawEntry

GRACE_SECONDS: Final = 10.0
MAX_GRACE_SECONDS: Final = 24 * 3600.0
MAX_REASON_CHARS: Final = 1000
MAX_NAME_CHARS: Final = 128
ANSWER_TYPES: Final = frozenset({PAUSED, RESUMED, SIGNALLED})
"""What answers a request; for a cancellation it is the ending."""


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """``id`` is that of its entry in the log; ``by`` says who asks, where that is known.

    ``grace_seconds`` is how long a body that is cancelled may take to stop. ``name`` and ``data`` are a signal's.
    """

    id: str
    type: str
    by: str | None = None
    reason: str | None = None
    grace_seconds: float = GRACE_SECONDS
    name: str = ""
    data: Any = None

    @property
    def cancels(self) -> bool:
        """Whether it asks for the end."""
        return self.type == CANCEL_REQUESTED


LOST_REQUEST: Final = ControlRequest("", CANCEL_REQUESTED)
"""A cancellation of which only the status is left."""


def read_request(raw: RawEntry, *, limit_bytes: int = MAX_EVENT_BYTES) -> ControlRequest:
    """Check an entry of a control stream, which any program may have written.

    A member of the data that is not what it should be counts as absent: the request stands in the log, and its status
    may have followed already. Raises InvalidEventError for what is no copy of a request.
    """
    fields = list(raw[1] or ())
    given = dict(zip(fields[::2], fields[1::2], strict=False))
    written_as = given.pop(b"r", b"").decode(errors="replace")
    try:
        cursor = parse(written_as, field="r")
    except InvalidInputError as error:
        raise InvalidEventError("r", error.detail) from None
    if cursor == START:
        raise InvalidEventError("r", "is missing: no entry of the log is named")
    entry = decode(cursor.encode(), [part for pair in given.items() for part in pair], limit_bytes=limit_bytes)
    if entry.type not in REQUEST_TYPES:
        detail = entry.data.get("detail", "") if isinstance(entry.data, dict) else ""
        raise InvalidEventError("t", f"{entry.type!r} is not a control request {detail}".rstrip())
    data = entry.data if isinstance(entry.data, dict) else {}
    return ControlRequest(
        str(cursor),
        entry.type,
        by=_text(data.get("by"), MAX_NAME_CHARS),
        reason=_text(data.get("reason"), MAX_REASON_CHARS),
        grace_seconds=GRACE_SECONDS if (grace := _as_grace(data.get("grace_seconds"))) is None else grace,
        name=_text(data.get("name"), MAX_NAME_CHARS) or "",
        data=data.get("data"),
    )


def answers(request: str, entry: Entry) -> bool:
    """Whether an event that follows a request in the log is its outcome; an ending answers every request before it."""
    if entry.is_terminal:
        return True
    return entry.type in ANSWER_TYPES and isinstance(data := entry.data, dict) and data.get("request") == request


def answer(request: ControlRequest, **more: Any) -> dict[str, Any]:
    """The data of the event that answers a request."""
    who = {} if request.by is None else {"by": request.by}
    return {"request": request.id, **who, **more}


def cancelled_by(request: ControlRequest, *, forced: bool = False) -> dict[str, Any]:
    """The data of the ending of an execution that was told to cancel; ``forced`` when its body did not stop."""
    answered = answer(request) if request.id else {}
    return {"reason": request.reason or "cancelled", **answered, **({"forced": True} if forced else {})}


def check_text(text: object, *, field: Literal["by", "reason", "name"]) -> str:
    """Return what is said when it can be shown. Raises InvalidInputError."""
    most = MAX_REASON_CHARS if field == "reason" else MAX_NAME_CHARS
    if not isinstance(text, str) or not 1 <= len(text) <= most:
        raise InvalidInputError(field, f"expected text of 1 to {most} characters")
    if not text.isprintable():
        raise InvalidInputError(field, "has line breaks, control characters or halves of surrogate pairs")
    return text


def check_grace(grace_seconds: object) -> float:
    """Raises InvalidInputError."""
    grace = _as_grace(grace_seconds)
    if grace is None:
        raise InvalidInputError("grace_seconds", f"expected 0 to {MAX_GRACE_SECONDS:g} seconds")
    return grace


def _as_grace(given: object) -> float | None:
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        return None
    return float(given) if math.isfinite(given) and 0 <= given <= MAX_GRACE_SECONDS else None


def _text(given: Any, most: int) -> str | None:
    return given[:most] if isinstance(given, str) and given else None
