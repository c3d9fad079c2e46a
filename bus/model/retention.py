"""How much of a log is kept, and for how long. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retention:
    """Bounds of one execution's log; each is kept by append.lua in the same step as the append.

    ``ended_state_seconds`` is longer than ``ended_seconds``, so that somebody who comes late is told how it ended
    though the events are gone.
    """

    max_entries: int = 100_000
    max_bytes: int = 64 * 1024 * 1024
    live_seconds: int = 24 * 3600
    ended_seconds: int = 3600
    ended_state_seconds: int = 25 * 3600

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.ended_state_seconds < self.ended_seconds:
            # The state proves which entry is the ending: a log without it would never be seen to end.
            raise ValueError("ended_state_seconds must be at least ended_seconds")
