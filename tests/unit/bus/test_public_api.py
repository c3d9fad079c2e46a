"""What the bus offers is a promise: it changes on purpose or not at all."""

from __future__ import annotations

import bus
from bus import errors


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


def test_every_public_name_exists() -> None:
    assert [name for name in bus.__all__ if not hasattr(bus, name)] == []


def test_every_error_of_the_bus_is_public_and_drawn_in_the_tree() -> None:
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert defined <= set(bus.__all__)
    assert errors.__doc__ is not None
    assert [name for name in defined if name not in errors.__doc__] == []
