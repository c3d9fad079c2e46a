"""What a worker is asked to do. Pure."""

from __future__ import annotations

import hashlib
import json
import math
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from tailrace.bus.errors import InvalidInputError
from tailrace.bus.model.event import encode_json
from tailrace.bus.model.fields import number, text
from tailrace.bus.model.labels import Labels, labels_text, read_labels
from tailrace.bus.model.trace import traceparent_of

MAX_INPUT_BYTES: Final = 256 * 1024
MAX_KEY_CHARS: Final = 256
MAX_TENANT_CHARS: Final = 64
# Up to here a float is every whole number.
_EXACT: Final = 2.0**53
MOST_ATTEMPTS: Final = 1000
# As an execution id may begin, and without ``__``, which separates it from the rest of an id.
_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*(_[A-Za-z0-9-]+)*", re.ASCII)
# A month: what is to wait longer is a calendar's business, not a queue's.
MAX_DELAY_SECONDS: Final = 31 * 24 * 3600.0

# As they stand in the state, in the order in which ``parse_submission`` reads them.
SUBMISSION_FIELDS: Final = (
    "pipeline", "input", "queue", "tenant", "concurrency_key", "asked_attempts", "delay_ms", "requeued_from",
    "trace", "labels", "timeout_ms", "start_within_ms", "deadline",
)  # fmt: skip

# Random, and ours for ever: an idempotency key must give the same id in every release.
_NAMESPACE: Final = uuid.UUID("5b0e3a3e-5d3c-4b58-9c3f-0d6b8f3c7a51")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029\ud800-\udfff]")
MAX_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Submission:
    """``max_attempts`` can only lower the pipeline's own; ``requeued_from`` is the dead execution that it repeats.

    ``trace`` is the ``traceparent`` of the submitter. ``timeout_seconds`` and ``start_within_seconds`` count from its
    submission, the latter from the end of its delay; ``deadline_ms`` is when the former is over, Unix milliseconds by
    Redis's clock.
    """

    execution_id: str
    pipeline: str
    input: dict[str, Any]
    queue: str = "default"
    tenant: str | None = None
    concurrency_key: str | None = None
    max_attempts: int | None = None
    delay_seconds: float = 0.0
    requeued_from: str | None = None
    trace: str | None = None
    labels: Labels = field(default_factory=dict)
    timeout_seconds: float | None = None
    start_within_seconds: float | None = None
    deadline_ms: int | None = None

    @property
    def fingerprint(self) -> str:
        """The same for the same work, whenever it is to be begun."""
        what: list[Any] = [self.pipeline, self.input, self.queue, self.tenant, self.concurrency_key, self.max_attempts]
        if self.labels:
            what.append(dict(self.labels))
        if self.timeout_seconds is not None or self.start_within_seconds is not None:
            what += ["limits", self.timeout_seconds, self.start_within_seconds]
        canonical = json.dumps(_with_one_number(what), sort_keys=True, default=str)
        return hashlib.sha256(canonical.encode()).hexdigest()[:32]

    def fields(self, now_ms: int) -> list[str | bytes]:
        """Field, value, … of the state; ``now_ms`` is Unix milliseconds by Redis's clock.

        Raises InvalidEventError for an input that is not JSON or too large.
        """
        encoded = encode_json(self.input, field="input", limit_bytes=MAX_INPUT_BYTES)
        fields: list[str | bytes] = ["pipeline", self.pipeline, "input", encoded, "queue", self.queue]
        optional = {
            "tenant": self.tenant,
            "concurrency_key": self.concurrency_key,
            "asked_attempts": self.max_attempts,
            "delay_ms": math.ceil(self.delay_seconds * 1000) or None,
            "requeued_from": self.requeued_from,
            "trace": self.trace,
            "labels": labels_text(self.labels) or None,
            "timeout_ms": _ms(self.timeout_seconds),
            "deadline": None if self.timeout_seconds is None else now_ms + (_ms(self.timeout_seconds) or 0),
            "start_within_ms": _ms(self.start_within_seconds),
            "start_by": None
            if self.start_within_seconds is None
            else now_ms + math.ceil((self.delay_seconds + self.start_within_seconds) * 1000),
        }
        for name, value in optional.items():
            if value is not None:
                fields += [name, str(value)]
        return fields


def parse_submission(execution_id: str, values: Sequence[bytes | None]) -> Submission | None:
    """Read what HMGET gave for SUBMISSION_FIELDS; None for an execution that was not submitted.

    Raises InvalidInputError when another program wrote the input and it is not a JSON object.
    """
    raw = dict(zip(SUBMISSION_FIELDS, values, strict=True))
    pipeline, given = text(raw["pipeline"]) or None, raw["input"]
    if pipeline is None or given is None:
        return None
    try:
        parsed = orjson.loads(given)
    except orjson.JSONDecodeError as error:
        raise InvalidInputError("input", f"of execution {execution_id} is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise InvalidInputError("input", f"of execution {execution_id} is not a JSON object")
    return Submission(
        execution_id,
        pipeline,
        parsed,
        text(raw["queue"]) or "default",
        text(raw["tenant"]) or None,
        text(raw["concurrency_key"]) or None,
        number(raw["asked_attempts"], max_digits=MAX_DIGITS),
        (number(raw["delay_ms"], max_digits=MAX_DIGITS) or 0) / 1000,
        text(raw["requeued_from"]) or None,
        traceparent_of(text(raw["trace"]) or None),
        read_labels(raw["labels"]),
        timeout_seconds=_seconds(number(raw["timeout_ms"], max_digits=MAX_DIGITS)),
        start_within_seconds=_seconds(number(raw["start_within_ms"], max_digits=MAX_DIGITS)),
        deadline_ms=number(raw["deadline"]),
    )


def _with_one_number(value: Any) -> Any:
    """1.0 as 1: JSON does not tell them apart, and a client that repeats itself may write the other one."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, dict):
        return {name: _with_one_number(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_with_one_number(item) for item in value]
    return value


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else math.ceil(seconds * 1000)


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def check_limit_seconds(seconds: float | None, *, field: str) -> float | None:
    """Return how long something may take at most. Raises InvalidInputError."""
    if seconds is not None and not 0 < seconds <= MAX_DELAY_SECONDS:
        raise InvalidInputError(field, f"is {seconds}; it must be more than 0 and at most {MAX_DELAY_SECONDS:.0f}")
    return seconds


def check_key(key: object, *, field: str) -> str:
    """Return a concurrency or idempotency key that can be used. Raises InvalidInputError."""
    if not isinstance(key, str) or not key or len(key) > MAX_KEY_CHARS or _UNPRINTABLE.search(key):
        raise InvalidInputError(field, f"must be text of 1 to {MAX_KEY_CHARS} characters without control characters")
    return key


def is_tenant(name: str) -> bool:
    return len(name) <= MAX_TENANT_CHARS and _TENANT.fullmatch(name) is not None


def check_tenant(tenant: str | None) -> str | None:
    """Raises InvalidInputError."""
    if tenant is not None and not is_tenant(tenant):
        detail = f"{tenant[:80]!r} must be up to {MAX_TENANT_CHARS} letters, digits, '-', and single '_' between them"
        raise InvalidInputError("tenant", detail)
    return tenant


def check_max_attempts(attempts: int | None) -> int | None:
    """Raises InvalidInputError."""
    if attempts is not None and not 1 <= attempts <= MOST_ATTEMPTS:
        raise InvalidInputError("max_attempts", f"is {attempts}; it must be from 1 to {MOST_ATTEMPTS}")
    return attempts


def check_delay_seconds(seconds: float) -> float:
    """Raises InvalidInputError."""
    if not 0 <= seconds <= MAX_DELAY_SECONDS:
        raise InvalidInputError("delay_seconds", f"is {seconds}; it must be from 0 to {MAX_DELAY_SECONDS:.0f}")
    return seconds


def id_of_key(tenant: str | None, idempotency_key: str) -> str:
    """The execution id of an idempotency key: who repeats the key meets what it made the first time."""
    return str(uuid.uuid5(_NAMESPACE, json.dumps(["key", tenant, idempotency_key])))


def id_of_repetition(execution_id: str) -> str:
    """The id under which a dead execution is tried once more, always the same: asked twice, it is tried once."""
    return str(uuid.uuid5(_NAMESPACE, json.dumps(["again", execution_id])))
