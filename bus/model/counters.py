"""What happened, counted: losses, drops, cuts, fallbacks and retries among it. Pure.

One object per bus; gateways and workers show it as Prometheus metrics.
"""

from __future__ import annotations

from collections import Counter

from tailrace.bus.model.durations import OF_LATENCIES, Durations


class Counters(Counter[str]):
    """Names are Prometheus-like without prefix and suffix: ``tail_reconnects``, ``append_retries``, ``gaps``.

    ``append_seconds``: how long appends that succeeded took, a batch each. ``delivery_seconds``: from the moment when
    Redis took an entry until it was handed to its followers here; a sample a turn of the tail, by two clocks, Redis'
    and this host's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.append_seconds = Durations(OF_LATENCIES)
        self.delivery_seconds = Durations(OF_LATENCIES)

    def add(self, name: str, amount: int = 1) -> None:
        self[name] += amount
