"""Fan-out: an execution's entries, read and rendered once, written to all who watch it here. May import wire."""

from tailrace.gateway.hub.hub import Hold, Hub, HubLimits
from tailrace.gateway.hub.topic import Topic
from tailrace.gateway.hub.viewer import Sink, Viewer

__all__ = ["Hold", "Hub", "HubLimits", "Sink", "Topic", "Viewer"]
