"""Live connections here and on all gateways: who watches what, and ending a connection before its stream does.

May import auth.
"""

from tailrace.gateway.presence.live_connections import Kind, LiveConnection, LiveConnections, Watching
from tailrace.gateway.presence.presence import Presence, PresentClient, Subscribers

__all__ = ["Kind", "LiveConnection", "LiveConnections", "Presence", "PresentClient", "Subscribers", "Watching"]
