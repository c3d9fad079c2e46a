"""A Redis that is loading its data: it answers, but serves nothing yet."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, Final

logger = logging.getLogger(__name__)

# Most loads are over by then.
TOLD_AFTER_SECONDS: Final = 1.0
TOLD_EVERY_SECONDS: Final = 5.0


def progress(info: Mapping[str, Any]) -> str:
    """How far it is, from what ``INFO persistence`` says. Pure."""
    percent, left_seconds = info.get("loading_loaded_perc"), info.get("loading_eta_seconds")
    if percent is None or left_seconds is None:
        return "Redis is loading its data"
    return f"Redis is loading its data: {float(percent):.0f} % done, about {max(0, int(left_seconds))} s left"


class LoadingNotice:
    """Logs that this process waits for a server to load: after a second, then every few seconds."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._tell_at = time.monotonic() + TOLD_AFTER_SECONDS

    def tell(self, message: str) -> None:
        now = time.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + TOLD_EVERY_SECONDS
            logger.warning("%s: %s; waiting", self._server, message)
