"""The hub: rendered once, written to all."""

from gateway.hub.filter import Filter
from gateway.hub.hub import Hub, HubLimits
from gateway.hub.topic import Topic
from gateway.hub.viewer import Sink, Viewer

__all__ = ["Filter", "Hub", "HubLimits", "Sink", "Topic", "Viewer"]
