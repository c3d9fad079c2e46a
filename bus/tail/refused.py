"""Keys that Redis does not let us read: of another type, or forbidden by an ACL.

Whoever watches one is told, and may resume at once. The key is left alone all the same, for longer and longer, and read
by itself until it can be read again: it must cost neither Redis nor those who watch other keys.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tailrace.bus.errors import ReplyError
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.retry import Backoff

logger = logging.getLogger(__name__)

BACKOFF: Final = Backoff(first_seconds=0.2, most_seconds=5.0)


@dataclass(slots=True)
class _Refusal:
    attempts: int
    due: float


class RefusedKeys:
    """Bounded by those who watch: a key that nobody watches any more is to be forgotten."""

    def __init__(self, counters: Counters, now: Callable[[], float]) -> None:
        self._counters = counters
        self._now = now
        self._refusals: dict[bytes, _Refusal] = {}

    def __bool__(self) -> bool:
        return bool(self._refusals)

    def __contains__(self, key: bytes) -> bool:
        return key in self._refusals

    def note(self, key: bytes, error: ReplyError) -> float:
        """It was read in vain; gives how long it is to be left alone."""
        refusal = self._refusals.get(key)
        if refusal is None:
            self._counters.add("tail_refused_keys")
            logger.warning(
                "tail: %r cannot be read: %s; those who watch it have been told, and it is tried again now and then",
                key,
                error,
            )
            refusal = self._refusals[key] = _Refusal(0, 0.0)
        refusal.attempts += 1
        seconds = BACKOFF.delay_seconds(refusal.attempts, random.random)
        refusal.due = self._now() + seconds
        return seconds

    def wait_seconds(self, key: bytes) -> float:
        """How long it is still to be left alone; 0 where it may be read."""
        refusal = self._refusals.get(key)
        return 0.0 if refusal is None else max(0.0, refusal.due - self._now())

    def forgive(self, key: bytes) -> None:
        """It was read."""
        if self._refusals.pop(key, None) is not None:
            logger.info("tail: %r can be read again", key)

    def forget(self, key: bytes) -> None:
        self._refusals.pop(key, None)
