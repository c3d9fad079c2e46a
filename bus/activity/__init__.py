"""What happens to all executions: one capped stream of their life cycles."""

from bus.activity.activity import Activity
from bus.activity.change import Change
from bus.activity.group import ActivityGroup, Held
from bus.activity.stream import ActivityLog

__all__ = ["Activity", "ActivityGroup", "ActivityLog", "Change", "Held"]
