"""The bus: events, log, publisher, tail, follow, executions. Knows nothing of HTTP."""

from tailrace.bus.bus import Bus, open_bus
from tailrace.bus.control import Control, Outcome
from tailrace.bus.errors import (
    AppendRefusedError,
    BusClosedError,
    BusError,
    BusUnavailableError,
    ConcurrencyConflictError,
    ConnectionLostError,
    ControlTimeoutError,
    DeadLetterUnknownError,
    EventTooLargeError,
    ExecutionClosedError,
    ExecutionExistsError,
    ExecutionUnknownError,
    FenceStaleError,
    InvalidCursorError,
    InvalidEventError,
    InvalidExecutionIdError,
    InvalidInputError,
    LeaseHeldError,
    LeaseLostError,
    LogExhaustedError,
    NotOrphanedError,
    PublishFailedError,
    QueueFullError,
    ReplyError,
    TenantMismatchError,
    TransitionRefusedError,
)
from tailrace.bus.log.publisher import Publisher
from tailrace.bus.model.control_request import ControlRequest
from tailrace.bus.model.cursor import START, Cursor
from tailrace.bus.model.entry import Entry, Gap
from tailrace.bus.model.event import Event
from tailrace.bus.model.retention import Retention
from tailrace.bus.model.state import State
from tailrace.bus.ownership.execution import Execution
from tailrace.bus.ownership.signals import Signal
from tailrace.bus.settings import BusSettings

__all__ = [
    "START",
    "AppendRefusedError",
    "Bus",
    "BusClosedError",
    "BusError",
    "BusSettings",
    "BusUnavailableError",
    "ConcurrencyConflictError",
    "ConnectionLostError",
    "Control",
    "ControlRequest",
    "ControlTimeoutError",
    "Cursor",
    "DeadLetterUnknownError",
    "Entry",
    "Event",
    "EventTooLargeError",
    "Execution",
    "ExecutionClosedError",
    "ExecutionExistsError",
    "ExecutionUnknownError",
    "FenceStaleError",
    "Gap",
    "InvalidCursorError",
    "InvalidEventError",
    "InvalidExecutionIdError",
    "InvalidInputError",
    "LeaseHeldError",
    "LeaseLostError",
    "LogExhaustedError",
    "NotOrphanedError",
    "Outcome",
    "PublishFailedError",
    "Publisher",
    "QueueFullError",
    "ReplyError",
    "Retention",
    "Signal",
    "State",
    "TenantMismatchError",
    "TransitionRefusedError",
    "open_bus",
]
