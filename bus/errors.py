"""Every error that the bus raises, and the root of all errors of Tailrace.

TailraceError
├── BusError
│   ├── InvalidInputError (also ValueError)   an argument cannot be used; names the field
│   │   ├── InvalidCursorError
│   │   ├── InvalidExecutionIdError
│   │   └── InvalidEventError
│   │       └── EventTooLargeError            carries size_bytes and limit_bytes
│   ├── AppendRefusedError                    the log refused the append; a retry cannot help
│   │   ├── ExecutionClosedError              the execution has ended; carries the terminal entry's id
│   │   ├── FenceStaleError                   another owner has taken the execution over
│   │   ├── TransitionRefusedError            not in this status, or not by this producer; carries the status
│   │   └── LogExhaustedError                 no id is left above the last one, or no room for a producer or request
│   ├── ExecutionUnknownError                 neither a log nor a state of that id
│   ├── ExecutionNotEndedError                only what has ended can be deleted; carries the status
│   ├── ExecutionEndedError                   it ended otherwise than by its result; carries the ending's data
│   │   ├── ExecutionFailedError              carries the reason and the message
│   │   ├── ExecutionCancelledError
│   │   └── ExecutionTimedOutError
│   ├── ResultLostError                       it has ended, and its log, with the result, has expired
│   ├── ExecutionExistsError                  the id was submitted before, with something else
│   ├── TenantMismatchError                   the execution exists and is not the tenant's; carries both
│   ├── LeaseHeldError                        another owner runs it; carries the owner
│   ├── LeaseLostError                        another owner has taken it over
│   ├── NotOrphanedError                      it still has a live owner; carries the status
│   ├── ConcurrencyConflictError              another execution of its concurrency key is in flight; carries its id
│   ├── DeadLetterUnknownError                dropped, requeued or trimmed, or never written
│   ├── QueueFullError                        the queue takes no more jobs; carries how many it has
│   ├── ControlTimeoutError                   a request was not answered in time, and still stands; carries it
│   ├── PublishFailedError                    the publisher gave up after retries; carries the reason
│   ├── BookmarkError                         about how far a group of readers has come
│   │   ├── BookmarkHeldError                 another reader of the group reads the execution
│   │   ├── BookmarkLostError                 another reader of the group has taken it over
│   │   └── BookmarkReadError                 the group has read it to its end
│   ├── EmbeddedServerError                   the embedded server could not be started or reached
│   ├── LibraryIncompatibleError              a library is not a version that works; carries its name
│   ├── BusClosedError                        the bus was used after it was closed
│   └── BusUnavailableError                   Redis cannot be reached or does not answer
│       ├── NotReplicatedError                too few replicas have it; the same append may be made again
│       ├── ConnectionLostError               the connection broke; whether a command ran is unknown
│       └── ReplyError                        Redis answered with an error; carries its code
├── WorkerError                               why an execution failed: workers/errors.py
└── GatewayError                              why a gateway refuses a request or cannot start: gateway/errors.py
"""

from __future__ import annotations

from typing import Any


class TailraceError(Exception):
    """The root of all errors of Tailrace."""


class BusError(TailraceError):
    """What the bus raises."""


class InvalidInputError(BusError, ValueError):
    """``field`` names what is wrong, the message says how to put it right."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.detail = message


class InvalidCursorError(InvalidInputError):
    """It is no ``<ms>-<n>``, or of another log."""


class InvalidExecutionIdError(InvalidInputError):
    """An id has 1 to 128 letters, digits, ``_`` or ``-``."""


class InvalidEventError(InvalidInputError):
    """Its type, step or data cannot be written; the path in the data is named."""


class EventTooLargeError(InvalidEventError):
    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            "data",
            f"the event has {size_bytes} bytes, the limit is {limit_bytes}; "
            "store large payloads elsewhere and send a reference",
        )
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class AppendRefusedError(BusError):
    """A retry cannot help."""


class ExecutionClosedError(AppendRefusedError):
    def __init__(self, execution_id: str, terminal_id: str) -> None:
        super().__init__(f"execution {execution_id} has ended (terminal entry {terminal_id}); its log is closed")
        self.execution_id = execution_id
        self.terminal_id = terminal_id


class FenceStaleError(AppendRefusedError):
    """Names neither fence nor secret: the caller that was refused may be an impostor."""

    def __init__(self, execution_id: str) -> None:
        super().__init__(f"execution {execution_id} has another owner by now: nothing more is taken from this one")
        self.execution_id = execution_id


class TransitionRefusedError(AppendRefusedError):
    """The state machine (bus/model/lifecycle.py) does not allow this event in this status."""

    def __init__(self, execution_id: str, status: str, event_type: str) -> None:
        super().__init__(
            f"execution {execution_id} is {status}: {event_type} is not allowed now, or only from its owner"
        )
        self.execution_id = execution_id
        self.status = status
        self.event_type = event_type


class LogExhaustedError(AppendRefusedError):
    """An entry of another program leaves no id for a next one; or there is no room for one more producer or request."""


class ExecutionUnknownError(BusError):
    def __init__(self, execution_id: str) -> None:
        super().__init__(f"no execution {execution_id}; it never existed, or its retention has passed")
        self.execution_id = execution_id


class ExecutionNotEndedError(BusError):
    """Only an execution that has ended can be deleted."""

    def __init__(self, execution_id: str, status: str) -> None:
        super().__init__(f"execution {execution_id} is {status}; only an ended one can be deleted: cancel it first")
        self.execution_id = execution_id
        self.status = status


class ExecutionEndedError(BusError):
    """``data`` is what the ending carries."""

    _how = "ended"

    def __init__(self, execution_id: str, data: Any) -> None:
        self.execution_id = execution_id
        self.data = data
        told = data if isinstance(data, dict) else {}
        self.reason: str | None = told.get("reason")
        self.message: str | None = told.get("message")
        why = self.message or self.reason
        super().__init__(f"execution {execution_id} {self._how}" + (f": {why}" if why else ""))


class ExecutionFailedError(ExecutionEndedError):
    _how = "has failed"


class ExecutionCancelledError(ExecutionEndedError):
    """Somebody asked for it."""

    _how = "was cancelled"


class ExecutionTimedOutError(ExecutionEndedError):
    """It was not done, or not begun, within its time."""

    _how = "has timed out"


class ResultLostError(BusError):
    def __init__(self, execution_id: str) -> None:
        super().__init__(f"execution {execution_id} has ended, and its log has expired with the result")
        self.execution_id = execution_id


class ExecutionExistsError(BusError):
    def __init__(self, execution_id: str) -> None:
        super().__init__(
            f"execution {execution_id} exists already and was submitted with another input; choose another id"
        )
        self.execution_id = execution_id


class TenantMismatchError(BusError):
    """It belongs to another tenant, or to none."""

    def __init__(self, execution_id: str, tenant: str) -> None:
        super().__init__(
            f"execution {execution_id} exists already and does not belong to tenant {tenant}; choose another id"
        )
        self.execution_id = execution_id
        self.tenant = tenant


class LeaseHeldError(BusError):
    """``until_ms`` is when its lease runs out unless renewed; Unix milliseconds by Redis's clock, as ``now_ms``."""

    def __init__(self, execution_id: str, owner: str, until_ms: int = 0, *, now_ms: int = 0) -> None:
        super().__init__(f"execution {execution_id} is being run by {owner}")
        self.execution_id = execution_id
        self.owner = owner
        self.until_ms = until_ms
        self.now_ms = now_ms


class LeaseLostError(BusError):
    """``uncertain``: the lease could not be renewed, and the body was stopped before another could take over."""

    def __init__(self, execution_id: str, *, uncertain: bool = False) -> None:
        what = "stopped: its lease could not be renewed" if uncertain else "was taken over by another owner"
        super().__init__(f"execution {execution_id} {what}")
        self.execution_id = execution_id


class NotOrphanedError(BusError):
    def __init__(self, execution_id: str, status: str) -> None:
        super().__init__(f"execution {execution_id} is {status} and still has a live owner; there is nothing to heal")
        self.execution_id = execution_id
        self.status = status


class ConcurrencyConflictError(BusError):
    def __init__(self, concurrency_key: str, execution_id: str) -> None:
        super().__init__(
            f"execution {execution_id} with the concurrency key {concurrency_key!r} is still in flight; "
            "wait until it has ended, or cancel it"
        )
        self.concurrency_key = concurrency_key
        self.execution_id = execution_id


class DeadLetterUnknownError(BusError):
    def __init__(self, queue: str, entry_id: str) -> None:
        super().__init__(
            f"queue {queue!r} has no dead letter {entry_id}; it has been dropped or requeued, or has expired"
        )
        self.queue = queue
        self.entry_id = entry_id


class QueueFullError(BusError):
    def __init__(self, queue: str, jobs: int) -> None:
        super().__init__(f"queue {queue!r} is full ({jobs} jobs); submit again later, or start more workers")
        self.queue = queue
        self.jobs = jobs


class ControlTimeoutError(BusError):
    """The request is in the log and will be carried out; the owner has not answered it yet."""

    def __init__(self, execution_id: str, request: str, waited_seconds: float) -> None:
        super().__init__(
            f"execution {execution_id}: request {request} was not answered in {waited_seconds:g} s, but it still stands"
        )
        self.execution_id = execution_id
        self.request = request


class PublishFailedError(BusError):
    """``reason`` is the last error before the publisher gave up."""

    def __init__(self, execution_id: str, reason: str, lost_events: int) -> None:
        super().__init__(f"execution {execution_id}: {lost_events} events could not be appended: {reason}")
        self.execution_id = execution_id
        self.reason = reason
        self.lost_events = lost_events


class BookmarkError(BusError):
    pass


class BookmarkHeldError(BookmarkError):
    pass


class BookmarkLostError(BookmarkError):
    pass


class BookmarkReadError(BookmarkError):
    pass


class EmbeddedServerError(BusError):
    """The message is one sentence that says what to do."""


class LibraryIncompatibleError(BusError):
    """What is needed inside another library is not there; only where the bounds of pyproject.toml were ignored."""

    def __init__(self, library: str, installed: str, wanted: str) -> None:
        super().__init__(f"{library} {installed} does not work with this version of Tailrace; install {wanted!r}")
        self.library = library


class BusClosedError(BusError):
    pass


class BusUnavailableError(BusError):
    """Redis cannot be reached, or does not answer."""


class NotReplicatedError(BusUnavailableError):
    """Too few replicas have what was appended (``TAILRACE_REPLICAS``); the same append may be made again."""


class ConnectionLostError(BusUnavailableError):
    """The connection broke: whether the commands under way ran is unknown."""


class ReplyError(BusUnavailableError):
    """Redis answered a command with an error; ``code`` is its first word, as in ``READONLY``."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = message.partition(" ")[0]

    @property
    def is_of_the_key(self) -> bool:
        """Whether this key cannot be read at all, so that a retry is of no use."""
        return self.code in {"WRONGTYPE", "NOPERM"}
