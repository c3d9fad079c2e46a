"""The activity as a stream for viewers: its frames and its filter."""

from gateway.activity.filter import ActivityFilter
from gateway.activity.format import ACTIVITY_SSE, ACTIVITY_SSE_UNNAMED, ActivitySse

__all__ = ["ACTIVITY_SSE", "ACTIVITY_SSE_UNNAMED", "ActivityFilter", "ActivitySse"]
