"""Everything the bus can say no with.

BusError
├── InvalidInputError (also ValueError)   what the caller gave cannot be used; names the field
│   ├── InvalidCursorError
│   ├── InvalidExecutionIdError
│   └── InvalidEventError
│       └── EventTooLargeError            carries size_bytes and limit_bytes
├── AppendRefusedError                    the log said no; a retry cannot help
│   ├── ExecutionClosedError              carries the terminal entry's id
│   ├── FenceStaleError                   another owner has taken the execution over
│   ├── TransitionRefusedError            not in this status, or not by this producer; carries the status
│   └── LogExhaustedError                 no id is left above the last one
├── ExecutionUnknownError                 neither a log nor a state of that id
├── ExecutionExistsError                  submitted before with something else
├── TenantMismatchError                   there already, and not the tenant's; carries both
├── LeaseHeldError                        somebody else runs it; carries the owner
├── LeaseLostError                        somebody else runs it now
├── NotOrphanedError                      nothing is to be healed; carries the status
├── ConcurrencyConflictError              another of its concurrency key is in flight; carries its id
├── DeadLetterUnknownError                dropped, requeued or trimmed, or never written
├── QueueFullError                        too many jobs wait in it; carries how many
├── ControlTimeoutError                   asked, but the outcome did not come in time; carries the request
├── PublishFailedError                    gave up after retries; carries the true reason
├── BusClosedError                        used after close
└── BusUnavailableError                   Redis cannot be reached or does not answer
    ├── ConnectionLostError               the connection broke; whether a command ran is unknown
    └── ReplyError                        Redis answered with an error; carries its code
"""

from __future__ import annotations


class BusError(Exception):
    """Root of all errors raised by the bus."""


class InvalidInputError(BusError, ValueError):
    """What the caller gave cannot be used.

    ``field`` names what is wrong, the message says how to cure it.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.detail = message


class InvalidCursorError(InvalidInputError):
    pass


class InvalidExecutionIdError(InvalidInputError):
    pass


class InvalidEventError(InvalidInputError):
    pass


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
    """The log refused the append for good; a retry cannot help."""


class ExecutionClosedError(AppendRefusedError):
    def __init__(self, execution_id: str, terminal_id: str) -> None:
        super().__init__(f"execution {execution_id} has ended (terminal entry {terminal_id}); its log is closed")
        self.execution_id = execution_id
        self.terminal_id = terminal_id


class FenceStaleError(AppendRefusedError):
    def __init__(self, execution_id: str, fence: int, current: int) -> None:
        super().__init__(
            f"execution {execution_id} was taken over: this owner's fence is {fence}, the current one {current}"
        )
        self.execution_id = execution_id
        self.fence = fence
        self.current = current


class TransitionRefusedError(AppendRefusedError):
    """The state machine (bus.lifecycle) knows no such step from here."""

    def __init__(self, execution_id: str, status: str, event_type: str) -> None:
        super().__init__(f"execution {execution_id} is {status}: {event_type} cannot follow, or only from who runs it")
        self.execution_id = execution_id
        self.status = status
        self.event_type = event_type


class LogExhaustedError(AppendRefusedError):
    """Somebody wrote an entry whose id leaves no room for a next one."""


class ExecutionUnknownError(BusError):
    def __init__(self, execution_id: str) -> None:
        super().__init__(f"no execution {execution_id}; it never existed, or its retention has passed")
        self.execution_id = execution_id


class ExecutionExistsError(BusError):
    def __init__(self, execution_id: str) -> None:
        super().__init__(f"execution {execution_id} exists already and was submitted with something else")
        self.execution_id = execution_id


class TenantMismatchError(BusError):
    """It is there already: another tenant's, or nobody's."""

    def __init__(self, execution_id: str, tenant: str) -> None:
        super().__init__(f"execution {execution_id} exists already and is not tenant {tenant}'s; choose another id")
        self.execution_id = execution_id
        self.tenant = tenant


class LeaseHeldError(BusError):
    """``until_ms`` is when its lease runs out unless it is renewed, in Unix milliseconds by Redis's clock."""

    def __init__(self, execution_id: str, owner: str, until_ms: int = 0) -> None:
        super().__init__(f"execution {execution_id} is being run by {owner}")
        self.execution_id = execution_id
        self.owner = owner
        self.until_ms = until_ms


class LeaseLostError(BusError):
    def __init__(self, execution_id: str) -> None:
        super().__init__(f"execution {execution_id} was taken over by another owner")
        self.execution_id = execution_id


class NotOrphanedError(BusError):
    def __init__(self, execution_id: str, status: str) -> None:
        super().__init__(f"execution {execution_id} is {status}: nobody has lost it")
        self.execution_id = execution_id
        self.status = status


class ConcurrencyConflictError(BusError):
    def __init__(self, concurrency_key: str, execution_id: str) -> None:
        super().__init__(
            f"execution {execution_id} with the concurrency key {concurrency_key!r} is still in flight; "
            "wait for its end, or cancel it"
        )
        self.concurrency_key = concurrency_key
        self.execution_id = execution_id


class DeadLetterUnknownError(BusError):
    def __init__(self, queue: str, entry_id: str) -> None:
        super().__init__(f"queue {queue!r} has no dead letter {entry_id}; it was dropped or requeued, or is too old")
        self.queue = queue
        self.entry_id = entry_id


class QueueFullError(BusError):
    def __init__(self, queue: str, jobs: int) -> None:
        super().__init__(
            f"queue {queue!r} has {jobs} jobs, the most there can be; submit again when workers have done some"
        )
        self.queue = queue
        self.jobs = jobs


class ControlTimeoutError(BusError):
    """The request stands in the log and will be obeyed; nobody has answered it yet."""

    def __init__(self, execution_id: str, request: str, waited_seconds: float) -> None:
        super().__init__(
            f"execution {execution_id}: request {request} was not answered within {waited_seconds:g} s; it still stands"
        )
        self.execution_id = execution_id
        self.request = request


class PublishFailedError(BusError):
    """The publisher gave up; ``reason`` is what stood in the way at the end."""

    def __init__(self, execution_id: str, reason: str, lost_events: int) -> None:
        super().__init__(f"execution {execution_id}: {lost_events} events could not be appended: {reason}")
        self.execution_id = execution_id
        self.reason = reason
        self.lost_events = lost_events


class BusClosedError(BusError):
    pass


class BusUnavailableError(BusError):
    """Redis cannot be reached, or does not answer."""


class ConnectionLostError(BusUnavailableError):
    """The connection broke: whether the commands under way ran is unknown."""


class ReplyError(BusUnavailableError):
    """Redis answered a command with an error; ``code`` is its first word, as in ``READONLY``."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = message.partition(" ")[0]

    @property
    def is_of_the_key(self) -> bool:
        """Whether this key can never be read as it stands, however often one asks."""
        return self.code in {"WRONGTYPE", "NOPERM"}
