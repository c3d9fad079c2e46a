"""Who watches, over all gateways: each writes down its own, and is believed for as long as it goes on doing so."""

from tailrace.gateway.presence.live_connections import Kind, LiveConnection, LiveConnections, Watching
from tailrace.gateway.presence.presence import Presence, PresentClient, Subscribers

__all__ = ["Kind", "LiveConnection", "LiveConnections", "Presence", "PresentClient", "Subscribers", "Watching"]
