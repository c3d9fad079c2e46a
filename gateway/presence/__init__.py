"""Who watches, over all gateways: each writes down its own, and is believed for as long as it goes on doing so."""

from tailrace.gateway.presence.presence import Presence, PresentClient, Subscribers
from tailrace.gateway.presence.stays import Kind, Standing, Stays, Watching

__all__ = ["Kind", "Presence", "PresentClient", "Standing", "Stays", "Subscribers", "Watching"]
