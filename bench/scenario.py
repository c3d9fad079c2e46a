"""A scenario: who is measured under which load, and how one round of it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.contenders import Contender
from bench.measurement import Measurement


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    group: str
    title: str
    contenders: tuple[str, ...]
    measure: Callable[[Contender], Measurement]
    ladder: str = ""
    """Scenarios of one ladder are climbed in order: who cannot keep up on a rung is not asked the next."""
