"""The hub: rendered once, written to all."""

from tailrace.gateway.hub.hub import Hub, HubLimits
from tailrace.gateway.hub.topic import Topic
from tailrace.gateway.hub.viewer import Sink, Viewer

__all__ = ["Hub", "HubLimits", "Sink", "Topic", "Viewer"]
