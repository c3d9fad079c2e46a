"""The life cycles of all executions, in one capped stream. Imports log, tail, redis and model."""

from tailrace.bus.activity.activity import Activity
from tailrace.bus.activity.change import Change
from tailrace.bus.activity.group import ActivityGroup, Held
from tailrace.bus.activity.stream import ActivityLog

__all__ = ["Activity", "ActivityGroup", "ActivityLog", "Change", "Held"]
