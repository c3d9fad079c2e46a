"""A scenario: who is measured under which load, and how one round of it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.measurement import Measurement


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    group: str
    title: str
    contenders: tuple[str, ...]
    measure: Callable[[str], Measurement]
    """One round of one contender, by name. Raises LoadError, NotReadyError."""
    missing: Callable[[str], str | None] = lambda _: None
    """What a contender needs to be installed; None when it can be started."""
    rounds: int = 0
    """0 for as many as the run has."""
    ladder: str = ""
    """Scenarios of one ladder are climbed in order: who cannot keep up on a rung is not asked the next."""
