"""What the bus offers is a promise: it changes on purpose or not at all."""

from __future__ import annotations

from tailrace import bus
from tailrace.bus import errors


def test_the_public_names_are_exactly_these() -> None:
    assert bus.__all__ == [
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


def test_every_public_name_exists() -> None:
    assert [name for name in bus.__all__ if not hasattr(bus, name)] == []


def test_every_error_of_the_bus_is_public_and_drawn_in_the_tree() -> None:
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert defined <= set(bus.__all__)
    assert errors.__doc__ is not None
    assert [name for name in defined if name not in errors.__doc__] == []
