"""What happened, counted: losses, drops, cuts, fallbacks and retries among it. Pure.

One object per bus; the gateway shows it as Prometheus metrics.
"""

from __future__ import annotations

from collections import Counter


class Counters(Counter[str]):
    """Names are Prometheus-like without prefix and suffix: ``tail_reconnects``, ``append_retries``, ``gaps``."""

    def add(self, name: str, amount: int = 1) -> None:
        self[name] += amount
