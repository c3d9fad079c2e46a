from __future__ import annotations

from tailrace.bus.errors import BusError


class EmbeddedServerError(BusError):
    """The embedded server could not be started or reached; the message is one sentence with its cure."""
