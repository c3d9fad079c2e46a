"""What happens to all executions: one capped stream of their life cycles."""

from tailrace.bus.activity.activity import Activity
from tailrace.bus.activity.change import Change
from tailrace.bus.activity.group import ActivityGroup, Held
from tailrace.bus.activity.stream import ActivityLog

__all__ = ["Activity", "ActivityGroup", "ActivityLog", "Change", "Held"]
