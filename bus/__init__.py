"""The bus: events, log, publisher, tail, follow, executions. Knows nothing of HTTP."""

from bus.bus import Bus, open_bus
from bus.control import Control, Outcome
from bus.cursor import START, Cursor
from bus.entry import Entry, Gap
from bus.errors import (
    AppendRefusedError,
    BusClosedError,
    BusError,
    BusUnavailableError,
    ConcurrencyConflictError,
    ControlTimeoutError,
    DeadLetterUnknownError,
    EventTooLargeError,
    ExecutionClosedError,
    ExecutionExistsError,
    ExecutionSoundError,
    ExecutionUnknownError,
    FenceStaleError,
    InvalidCursorError,
    InvalidEventError,
    InvalidExecutionIdError,
    InvalidInputError,
    LeaseHeldError,
    LeaseLostError,
    LinkLostError,
    LogExhaustedError,
    PublishFailedError,
    QueueFullError,
    ReplyError,
    TenantMismatchError,
    TransitionRefusedError,
)
from bus.event import Event
from bus.execution import Execution
from bus.inbox import Signal
from bus.publisher import Publisher
from bus.request import Request
from bus.retention import Retention
from bus.settings import BusSettings
from bus.state import State

__all__ = [
    "START",
    "AppendRefusedError",
    "Bus",
    "BusClosedError",
    "BusError",
    "BusSettings",
    "BusUnavailableError",
    "ConcurrencyConflictError",
    "Control",
    "ControlTimeoutError",
    "Cursor",
    "DeadLetterUnknownError",
    "Entry",
    "Event",
    "EventTooLargeError",
    "Execution",
    "ExecutionClosedError",
    "ExecutionExistsError",
    "ExecutionSoundError",
    "ExecutionUnknownError",
    "FenceStaleError",
    "Gap",
    "InvalidCursorError",
    "InvalidEventError",
    "InvalidExecutionIdError",
    "InvalidInputError",
    "LeaseHeldError",
    "LeaseLostError",
    "LinkLostError",
    "LogExhaustedError",
    "Outcome",
    "PublishFailedError",
    "Publisher",
    "QueueFullError",
    "ReplyError",
    "Request",
    "Retention",
    "Signal",
    "State",
    "TenantMismatchError",
    "TransitionRefusedError",
    "open_bus",
]
